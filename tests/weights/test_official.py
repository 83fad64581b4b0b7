import re

import keras
import numpy as np
import pytest
import tiny

import mixnet_tf
from mixnet_tf import load_official_checkpoint
from mixnet_tf.weights.official import read_official_checkpoint

EMA = "/ExponentialMovingAverage"
GOLDEN_S = tiny.GOLDEN / "tiny-s" / "model.ckpt"


@pytest.fixture(scope="module")
def models():
    return {name: tiny.build_tiny(name, include_preprocessing=False) for name in tiny.TINY}


@pytest.fixture
def built(models):
    """A model for checkpoints that are refused; its weights do not matter."""
    return models["tiny-s"]


@pytest.fixture
def model(built):
    tiny.randomise(built)
    return built


@pytest.fixture(scope="module")
def golden_arrays():
    return tiny.read_checkpoint(GOLDEN_S)


@pytest.fixture
def arrays(golden_arrays):
    return dict(golden_arrays)


def assert_golden(ours, golden):
    """To 1e-5 of the largest value: the reference's kernels sum in another order."""
    np.testing.assert_allclose(ours, golden, rtol=0, atol=1e-5 * np.abs(golden).max())


def test_every_tiny_golden_has_a_model():
    assert {path.name for path in tiny.GOLDEN.iterdir() if path.name.startswith("tiny-")} == set(tiny.TINY)


@pytest.mark.parametrize("name", tiny.TINY)
@pytest.mark.parametrize("use_ema, key", [(False, "logits"), (True, "logits_ema")])
def test_the_logits_are_the_references(models, name, use_ema, key):
    golden = np.load(tiny.GOLDEN / name / "golden.npz")
    tiny.randomise(models[name])
    load_official_checkpoint(models[name], tiny.GOLDEN / name / "model.ckpt", use_ema=use_ema)
    assert_golden(models[name](golden["x"]), golden[key])
    assert np.abs(golden["logits"] - golden["logits_ema"]).max() > 0.01 * np.abs(golden["logits"]).max()


@pytest.mark.parametrize("name", tiny.TINY)
def test_every_endpoint_of_the_golden_data_is_the_references(models, name):
    golden = np.load(tiny.GOLDEN / name / "golden.npz")
    ends = [key.removeprefix("end:") for key in golden if key.startswith("end:")]
    assert sorted(ends) == sorted(["stem", "global_pool", *(f"reduction_{i}" for i in range(1, 6))])
    load_official_checkpoint(models[name], tiny.GOLDEN / name / "model.ckpt", use_ema=False)
    ours = mixnet_tf.features_model(models[name], ends)(golden["x"])
    for end in ends:
        assert_golden(ours[end], golden[f"end:{end}"])


def test_the_averages_are_read_unless_the_raw_weights_are_asked_for(model):
    golden = np.load(tiny.GOLDEN / "tiny-s" / "golden.npz")
    load_official_checkpoint(model, GOLDEN_S)
    assert_golden(model(golden["x"]), golden["logits_ema"])


def numbered(model_name):
    """The reference's variables, each filled with its place in the order of creation."""
    rows = tiny.listing(model_name)["variables"]
    return {row["name"]: np.full(row["shape"], i, "float32") for i, row in enumerate(rows)}


def places(model):
    """The number that each variable of the model was filled with, in the order of computation."""
    found = [np.unique(weight.numpy()) for layer in model.layers for weight in layer.weights]
    assert all(len(values) == 1 for values in found)
    return [int(values[0]) for values in found]


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_every_variable_of_the_reference_is_used_once_in_its_place(model_name, tmp_path):
    arrays = numbered(model_name)
    load_official_checkpoint(tiny.released(model_name), tiny.write_checkpoint(tmp_path / "c", arrays), use_ema=False)
    assert places(tiny.released(model_name)) == list(range(len(arrays)))


def bfloat16_names(names):
    """The names that the reference's bfloat16 build gives: convolutions are counted afresh in each scope."""
    counts, renamed = {}, {}
    for name in names:
        match = re.fullmatch(r"(mixnet-.)/mixnet_model/(.*/)((?:depthwise_)?conv2d)(_\d+)?/(\w+)", name)
        if match:
            top, scope, kind, counter, variable = match.groups()
            seen = counts.setdefault((scope, kind), [])
            if counter not in seen:
                seen.append(counter)
            rank = seen.index(counter)
            renamed[name] = f"{top}/{scope}{kind}{f'_{rank}' if rank else ''}/{variable}"
        else:
            renamed[name] = name.replace("/mixnet_model/head/dense", "/head/dense")
    return renamed


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_the_names_of_the_bfloat16_build_fall_in_the_same_places(model_name, tmp_path):
    arrays = numbered(model_name)
    renamed = bfloat16_names(arrays)
    assert len(set(renamed.values())) == len(arrays)
    assert not any("mixnet_model" in name or re.search(r"conv2d_\d\d", name) for name in renamed.values())
    path = tiny.write_checkpoint(tmp_path / "c", {renamed[name]: array for name, array in arrays.items()})
    load_official_checkpoint(tiny.released(model_name), path, use_ema=False)
    assert places(tiny.released(model_name)) == list(range(len(arrays)))


@pytest.mark.parametrize("prefix", ["", "efficient/", "a/b/c/", "blocks_3/", "head/", "stem_2/"])
def test_what_precedes_the_block_scope_does_not_matter(arrays, tmp_path, prefix):
    del arrays["global_step"]
    moved = {prefix + name.removeprefix("mixnet-s/").replace("mixnet_model/", ""): a for name, a in arrays.items()}
    expected = read_official_checkpoint(GOLDEN_S).arrays
    np.testing.assert_equal(read_official_checkpoint(tiny.write_checkpoint(tmp_path / "c", moved)).arrays, expected)


def test_counters_are_ordered_as_numbers(tmp_path):
    names = [row["name"] for row in tiny.listing("mixnet-s")["variables"] if "/blocks_3/conv2d" in row["name"]]
    assert [re.search(r"conv2d_(\d+)", name)[1] for name in names] == ["9", "12"]  # "12" < "9" as text


def test_slots_and_the_global_step_are_skipped(arrays, tmp_path):
    raw = [name for name in arrays if not name.endswith(EMA)]
    slots = {f"{name}/{slot}": np.full_like(arrays[name], 9) for name in raw for slot in ("RMSProp", "RMSProp_1")}
    path = tiny.write_checkpoint(tmp_path / "c", {**arrays, **slots, "global_step": np.int64(7)})
    np.testing.assert_equal(read_official_checkpoint(path).arrays, read_official_checkpoint(GOLDEN_S).arrays)


def assert_refused(model, arrays, folder, message, **kwargs):
    with tiny.refusal(model, ValueError, message):
        load_official_checkpoint(model, tiny.write_checkpoint(folder / "c", arrays), **kwargs)


# One variable of each kind: convolution, squeeze-and-excitation, depthwise, batch norm, dense.
KINDS = (
    "mixnet-s/mixnet_model/blocks_3/conv2d_12/kernel",
    "mixnet-s/mixnet_model/blocks_3/se/conv2d_11/bias",
    "mixnet-s/mixnet_model/blocks_3/depthwise_conv2d_4/depthwise_kernel",
    "mixnet-s/blocks_3/batch_normalization_2/moving_variance",
    "mixnet-s/mixnet_model/head/dense/bias",
    "mixnet-s/mixnet_model/stem/conv2d_78/kernel",
)


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_variable_is_named_by_its_part(built, arrays, tmp_path, name):
    del arrays[name], arrays[name + EMA]
    part = re.search(r"(stem|head|blocks_3)", name)[1].replace("blocks", "block")
    assert_refused(built, arrays, tmp_path, f"nothing was loaded.\n(  .*\n)*  missing: {part}/.*{name.split('/')[-1]}")


@pytest.mark.parametrize("name", KINDS)
def test_a_misshapen_variable_is_named_with_both_shapes(built, arrays, tmp_path, name):
    shape = arrays[name].shape
    for each in (name, name + EMA):
        arrays[each] = np.zeros((*shape[:-1], shape[-1] + 1), "float32")
    assert_refused(built, arrays, tmp_path, re.escape(f"misshapen: {name}{EMA} is {(*shape[:-1], shape[-1] + 1)}"))


def test_a_kernel_of_equal_size_in_another_layout_is_misshapen(built, arrays, tmp_path):
    name = "mixnet-s/mixnet_model/blocks_3/depthwise_conv2d_4/depthwise_kernel"
    arrays[name + EMA] = arrays[name + EMA].transpose(0, 1, 3, 2)
    assert_refused(built, arrays, tmp_path, "misshapen: .*depthwise_conv2d_4")


@pytest.mark.parametrize(
    "extra",
    [
        "mixnet-s/mixnet_model/blocks_3/conv2d_13/kernel",
        "mixnet-s/mixnet_model/blocks_16/conv2d_99/kernel",
        "mixnet-s/blocks_0/batch_normalization_2/gamma",
        "mixnet-s/mixnet_model/blocks_0/se/conv2d_3/kernel",
        "mixnet-s/mixnet_model/head/dense_1/kernel",
    ],
)
def test_a_variable_left_over_is_named(built, arrays, tmp_path, extra):
    arrays[extra] = arrays[extra + EMA] = np.zeros((2, 2), "float32")
    assert_refused(built, arrays, tmp_path, re.escape(f"left over: {extra}{EMA}"))


@pytest.mark.parametrize(
    "extra",
    [
        "some/variable",
        "mixnet-s/blocks_1x/conv2d/kernel",
        "mixnet-s/mystem/conv2d/kernel",
        "mixnet-s/blocks_1/conv2d/weird",
        "mixnet-s/blocks_1/conv2d_1/bias",
        "mixnet-s/blocks_1/other/conv2d/kernel",
        "mixnet-s/mixnet_model/blocks_1/conv2d_1/kernel/Adam",
    ],
)
def test_a_foreign_variable_is_named(built, arrays, tmp_path, extra):
    arrays[extra] = arrays[extra + EMA] = np.zeros(2, "float32")
    assert_refused(built, arrays, tmp_path, f"variables that are not MixNet's:\n  {re.escape(extra)}$")


def test_the_same_variable_under_two_prefixes_is_named_twice(built, arrays, tmp_path):
    name = "mixnet-s/mixnet_model/blocks_3/conv2d_12/kernel"
    other = name.replace("mixnet_model/", "")
    arrays[other], arrays[other + EMA] = arrays[name], arrays[name + EMA]
    assert_refused(built, arrays, tmp_path, rf"the same variable twice: .*{re.escape(other)}")


def test_an_absent_average_is_named_and_the_raw_weights_are_offered(model, arrays, tmp_path):
    name = KINDS[3]
    del arrays[name + EMA]
    assert_refused(
        model, arrays, tmp_path, f"no moving average for 1 of 347 variables; use_ema=False .*\n  {re.escape(name)}$"
    )
    load_official_checkpoint(model, tmp_path / "c", use_ema=False)


def test_a_checkpoint_without_averages_says_how_many_it_lacks(model):
    with pytest.raises(ValueError, match="no moving average for 347 of 347.*\n(  .*\n){20}  ... and 327 more"):
        load_official_checkpoint(model, tiny.GOLDEN / "train-s" / "init.ckpt")


def test_an_average_of_a_variable_that_is_absent_is_named(built, arrays, tmp_path):
    del arrays[KINDS[0]]
    for use_ema in (True, False):
        assert_refused(built, arrays, tmp_path, f"averages of variables that it lacks:\n  {KINDS[0]}", use_ema=use_ema)


@pytest.fixture(scope="module")
def three_classes():
    return tiny.build_tiny(include_preprocessing=False, classes=3)


def test_another_number_of_classes_is_refused_with_the_way_out(three_classes, arrays, tmp_path):
    assert_refused(
        three_classes, arrays, tmp_path, r"head/dense/bias.* is \(10,\), the model's is \(3,\).*skip_head=True"
    )


def test_skip_head_reads_all_but_the_dense_layer(three_classes, model):
    tiny.randomise(three_classes)
    head = [w.numpy() for w in three_classes.get_layer("head_dense").weights]
    load_official_checkpoint(three_classes, GOLDEN_S, skip_head=True)
    load_official_checkpoint(model, GOLDEN_S)
    np.testing.assert_equal([w.numpy() for w in three_classes.get_layer("head_dense").weights], head)
    for ours, theirs in zip(tiny.values(three_classes)[:-2], tiny.values(model)[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_without_its_top_takes_the_rest(model):
    headless = keras.Model(model.input, model.get_layer("head_activation").output)
    load_official_checkpoint(model, GOLDEN_S)
    expected = tiny.values(headless)
    tiny.randomise(model)
    load_official_checkpoint(headless, GOLDEN_S)
    np.testing.assert_equal(tiny.values(headless), expected)


def test_a_head_that_the_checkpoint_lacks_is_missing_unless_skipped(model, arrays, tmp_path):
    arrays = {name: array for name, array in arrays.items() if "/dense/" not in name}
    assert_refused(model, arrays, tmp_path, "missing: head/dense/0/bias")
    load_official_checkpoint(model, tmp_path / "c", skip_head=True)


def test_another_architecture_is_refused(models):
    before = tiny.values(models["tiny-m"])
    with pytest.raises(ValueError, match="does not fit model 'mixnet-m'; nothing was loaded"):
        load_official_checkpoint(models["tiny-m"], GOLDEN_S)
    for ours, theirs in zip(tiny.values(models["tiny-m"]), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
