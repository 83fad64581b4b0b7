import json
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixnet_tf
from mixnet_tf import load_timm_weights
from mixnet_tf.networks import GOOGLES, TIMMS, Resizing, carried_resizing
from mixnet_tf.weights.sources import load_weights
from mixnet_tf.weights.timm import read_timm_file

# timm 1.0.31's tf_mixnet_s with a quarter of the channels, 32 features and 10 classes; random weights.
GOLDEN = tiny.GOLDEN / "timm-tiny"
OVERRIDES = {"depth_multiplier": 0.25, "depth_divisor": 4, "feature_size": 32}


def build(classes=10, **kwargs):
    arguments = {"classifier_activation": None, "include_preprocessing": False, **kwargs}
    return mixnet_tf.build_model("mixnet-s", OVERRIDES, classes=classes, **arguments)


@pytest.fixture(scope="module")
def built():
    return build()


@pytest.fixture
def model(built):
    tiny.randomise(built)
    return built


@pytest.fixture(scope="module")
def golden_arrays():
    with np.load(GOLDEN / "tf_mixnet_s.npz") as file:
        return dict(file)


@pytest.fixture
def arrays(golden_arrays):
    return dict(golden_arrays)


def assert_golden(model):
    golden = np.load(GOLDEN / "golden.npz")
    largest = np.abs(golden["logits"]).max()
    # 1e-5 of the largest logit: PyTorch's kernels sum in another order.
    np.testing.assert_allclose(model(golden["x"]), golden["logits"], rtol=0, atol=1e-5 * largest)


def assert_golden_arrays(path):
    """Checks that a file has the arrays of the golden file, whose logits are those of timm."""
    np.testing.assert_equal(read_timm_file(path).arrays, read_timm_file(GOLDEN / "tf_mixnet_s.npz").arrays)


def test_the_logits_are_timms(model):
    load_timm_weights(model, GOLDEN / "tf_mixnet_s.npz")
    assert_golden(model)
    assert "torch" not in sys.modules


def test_a_safetensors_file_gives_the_same(arrays, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(arrays, tmp_path / "tf_mixnet_s.safetensors", metadata={"format": "pt"})
    assert_golden_arrays(tmp_path / "tf_mixnet_s.safetensors")


def test_the_resolver_takes_timms_files(model):
    load_weights(model, GOLDEN / "tf_mixnet_s.npz")
    assert_golden(model)


def test_without_safetensors_the_package_to_install_is_named(model, tmp_path, monkeypatch):
    (tmp_path / "m.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'mixnet_tf[timm]'")):
        load_timm_weights(model, tmp_path / "m.safetensors")


def assert_refused(model, path, message, error=ValueError, **kwargs):
    with tiny.refusal(model, error, message):
        load_timm_weights(model, path, **kwargs)


def save(folder, arrays, name="weights.npz"):
    np.savez(folder / name, **arrays)
    return folder / name


OTHERS = ["mixnet_s", "mixnet_m", "mixnet_l", "mixnet_xl", "mixnet_xxl"]


@pytest.mark.parametrize("name", [*OTHERS, "mixnet_xl_ra-aac3c00c", "mixnet_s.ft_in1k", "timm_mixnet_l"])
def test_timms_own_mixnets_are_told_by_the_files_name_from_its_ports(built, arrays, tmp_path, name):
    path = save(tmp_path, arrays, f"{name}.npz")
    assert_refused(built, path, "is of a network with padding='symmetric', but model 'mixnet-s' has padding='same'")


def test_timms_own_mixnets_are_told_by_the_folders_name(built, arrays, tmp_path):
    folder = tmp_path / "models--timm--mixnet_s.ft_in1k" / "snapshots" / "4e2b"
    folder.mkdir(parents=True)
    assert_refused(built, save(folder, arrays, "model.npz"), "is of a network with padding='symmetric'")


@pytest.mark.parametrize("architecture", OTHERS + ["resnet50", "tf_mixnet_xl"])
def test_the_config_beside_the_file_tells_more_than_a_name(built, arrays, tmp_path, architecture):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture}))
    message = "padding='symmetric'" if architecture in OTHERS else f"is timm's {architecture}; expected tf_mixnet_s"
    assert_refused(built, save(tmp_path, arrays, "tf_mixnet_s.npz"), message)


# timm 1.0.31's own networks with a quarter of the channels and 7 classes; random weights and statistics.
OWN = {"mixnet-s": ("mixnet-s", {}), "mixnet-xl": ("mixnet-m", {"repeat_multiplier": 1.2})}


@pytest.mark.parametrize("name", OWN)
def test_timms_own_networks_pad_and_normalize_as_their_weights(name, tmp_path):
    pytest.importorskip("safetensors")
    folder, (base, overrides) = tiny.GOLDEN / f"timm-{name}-quarter", OWN[name]
    weights = folder / "model.safetensors"
    model = mixnet_tf.build_model(
        base,
        {"depth_multiplier": 0.25, **overrides},
        classes=7,
        weights=weights,
        include_preprocessing=False,
        classifier_activation=None,
    )
    read = read_timm_file(weights)
    assert len(read.arrays) == len(model.weights)  # every one is used once
    golden = np.load(folder / "golden.npz")
    assert [golden[f"images_{number}"].shape[1:3] for number in range(2)] == [(64, 64), (65, 97)]
    for number in range(2):
        logits = golden[f"logits_{number}"]
        found = model(golden[f"images_{number}"])
        np.testing.assert_allclose(found, logits, rtol=0, atol=1e-5 * np.abs(logits).max())
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(golden["images_0"]), model(golden["images_0"]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"padding": "same"}, "of a network with padding='symmetric'; override_params has 'same'"),
        ({"batch_norm_epsilon": 1e-3}, "of a network with batch_norm_epsilon=1e-05; override_params has 0.001"),
    ],
)
def test_overrides_that_contradict_the_weights_are_refused(overrides, message, arrays, tmp_path):
    path = save(tmp_path, arrays, "mixnet_s.npz")
    with pytest.raises(ValueError, match=message):
        mixnet_tf.build_model("mixnet-s", {**OVERRIDES, **overrides}, classes=10, weights=path)
    model = mixnet_tf.build_model("mixnet-s", OVERRIDES, classes=10, weights=path, input_shape=(32, 32, 3))
    assert model.get_layer("stem_conv").__class__.__name__ == "SymmetricConv2D"
    assert model.get_layer("stem_bn").epsilon == 1e-5 and carried_resizing(model) == TIMMS
    assert_refused(model, save(tmp_path, arrays, "tf_mixnet_s.npz"), "with padding='same', but .* padding='symmetric'")


@pytest.mark.parametrize(
    "architecture, cfg, expected, warning",
    [
        ("mixnet_s", None, TIMMS, None),
        ("mixnet_s", {"crop_pct": 0.95, "interpolation": "bicubic"}, Resizing(None, 0.95, "bicubic"), None),
        ("mixnet_s", {"crop_mode": "center", "std": [0.5, 0.5, 0.5]}, TIMMS, "has {'std': [0.5, 0.5, 0.5]}, but here"),
        ("tf_mixnet_s", {"crop_pct": 0.875, "interpolation": "bicubic"}, GOOGLES, None),  # Google's weights
    ],
)
def test_weights_carry_how_their_images_are_resized(architecture, cfg, expected, warning, arrays, tmp_path, logged):
    described = {"architecture": architecture, **({} if cfg is None else {"pretrained_cfg": cfg})}
    (tmp_path / "config.json").write_text(json.dumps(described))
    assert read_timm_file(save(tmp_path, arrays)).resizing == expected
    said = logged()
    assert (warning in said) if warning else said == ""


@pytest.mark.parametrize(
    "config, message",
    [
        (["tf_mixnet_s"], r"expected a JSON object, received \['tf_mixnet_s'\]"),
        ({"architecture": 3}, "received 3"),
        ({"pretrained_cfg": []}, "expected a JSON object, received"),
        ({"architecture": "mixnet_s", "pretrained_cfg": {"crop_pct": 2}}, "crop_fraction: expected .* received 2"),
    ],
)
def test_a_config_that_is_not_timms_is_refused(built, arrays, tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_refused(built, save(tmp_path, arrays, "tf_mixnet_s.npz"), message)


def test_the_metadata_of_a_safetensors_file_tells_most(built, arrays, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "tf_mixnet_s.safetensors"
    safetensors.save_file(arrays, path, metadata={"architecture": "mixnet_s"})
    assert_refused(built, path, "is of a network with padding='symmetric'")


@pytest.mark.parametrize("name", ["tf_mixnet_s.in1k", "tf_mixnet_s-89d3354b", "weights", "my_tf_mixnet_s_v2"])
def test_files_of_tf_mixnet_and_files_without_a_name_are_read(arrays, tmp_path, name):
    assert_golden_arrays(save(tmp_path, arrays, f"{name}.npz"))


def test_the_last_name_in_the_path_counts(arrays, tmp_path):
    folder = tmp_path / "instead_of_mixnet_s"
    folder.mkdir()
    assert_golden_arrays(save(folder, arrays, "tf_mixnet_s.npz"))


KINDS = (
    "conv_stem.weight",
    "bn1.running_var",
    "blocks.1.0.conv_pw.1.weight",
    "blocks.2.0.conv_dw.2.weight",
    "blocks.2.0.se.conv_reduce.bias",
    "blocks.0.0.conv_pw.weight",
    "blocks.5.2.bn3.bias",
    "classifier.weight",
)


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_variable_is_named(built, arrays, tmp_path, name):
    del arrays[name]
    assert_refused(built, save(tmp_path, arrays), "nothing was loaded(.|\n)*missing: ")


@pytest.mark.parametrize("name", KINDS)
def test_a_misshapen_variable_is_named(built, arrays, tmp_path, name):
    arrays[name] = np.zeros((arrays[name].shape[0] + 1, *arrays[name].shape[1:]), "float32")
    assert_refused(built, save(tmp_path, arrays), f"misshapen: {re.escape(name)} is ")


@pytest.mark.parametrize("name", ["blocks.0.0.bn3.weight", "blocks.6.0.conv_dw.weight", "blocks.1.0.conv_pwl.2.weight"])
def test_a_variable_left_over_is_named(built, arrays, tmp_path, name):
    arrays[name] = np.zeros(3, "float32")
    assert_refused(built, save(tmp_path, arrays), f"left over: {re.escape(name)}")


@pytest.mark.parametrize(
    "name", ["fc.weight", "blocks.0.0.conv_pw.bias", "blocks.0.0.bn4.weight", "blocks.0.conv.weight"]
)
def test_a_foreign_variable_is_named(built, arrays, tmp_path, name):
    arrays[name] = np.zeros(3, "float32")
    assert_refused(built, save(tmp_path, arrays), f"not a timm mixnet's:\n  {re.escape(name)}")


def test_two_names_of_one_variable_are_named(built, arrays, tmp_path):
    arrays["conv_stem2.weight"] = arrays.pop("conv_stem.weight")
    arrays["blocks.1.0.conv_dw.0.weight"] = arrays["blocks.1.0.conv_dw.weight"]
    del arrays["conv_stem2.weight"]
    assert_refused(built, save(tmp_path, arrays), "the same variable twice: blocks.1.0.conv_dw")


def test_blocks_are_ordered_as_numbers(arrays, tmp_path):
    strings = ["r12_k3_a1_p1_s11_e1_i4_o4"]
    model = mixnet_tf.build_model(blocks_args=strings, override_params={"feature_size": 8}, classes=2)
    tiny.randomise(model)
    block = {n.removeprefix("blocks.0.0."): a for n, a in arrays.items() if n.startswith("blocks.0.0.")}
    made = {f"blocks.0.{i}.{n}": np.full_like(a, i) for i in range(12) for n, a in block.items()}
    made |= {n: a for n, a in arrays.items() if n.startswith(("conv_stem", "bn1"))}
    made |= {"conv_head.weight": np.zeros((8, 4, 1, 1)), "classifier.weight": np.zeros((2, 8))}
    made |= {"classifier.bias": np.zeros(2)}
    made |= {f"bn2.{n}": np.zeros(8) for n in ("weight", "bias", "running_mean", "running_var")}
    load_timm_weights(model, save(tmp_path, made))
    kernels = [model.get_layer(f"block_{i}_mixconv").kernels[0].numpy() for i in range(12)]
    assert [kernel.flat[0] for kernel in kernels] == list(range(12))


def test_skip_head_reads_all_but_the_classifier(model):
    other = build(classes=3)
    tiny.randomise(other, seed=9)
    head = [w.numpy() for w in other.get_layer("head_dense").weights]
    assert_refused(other, GOLDEN / "tf_mixnet_s.npz", "classifier.*skip_head=True")
    load_timm_weights(other, GOLDEN / "tf_mixnet_s.npz", skip_head=True)
    np.testing.assert_equal([w.numpy() for w in other.get_layer("head_dense").weights], head)
    load_timm_weights(model, GOLDEN / "tf_mixnet_s.npz")
    np.testing.assert_equal(tiny.values(other)[:-2], tiny.values(model)[:-2])


def test_a_file_that_is_not_there_is_named(built, tmp_path):
    assert_refused(built, tmp_path / "none.npz", "There is no file .*none.npz", FileNotFoundError)


@pytest.mark.parametrize("name", ["m.pth", "m.bin", "m"])
def test_another_kind_of_file_is_refused(built, tmp_path, name):
    assert_refused(built, tmp_path / name, "expected a .safetensors or .npz file")


@pytest.mark.parametrize("name, content", [("m.npz", b"text"), ("m.npz", b"PK\x03\x04rest"), ("m.npz", b"")])
def test_a_damaged_file_is_refused_by_its_name(built, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert_refused(built, tmp_path / name, "m.npz cannot be read as a .npz file")


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 64])
def test_a_damaged_safetensors_file_is_refused_by_its_name(built, tmp_path, content):
    pytest.importorskip("safetensors")
    (tmp_path / "m.safetensors").write_bytes(content)
    assert_refused(built, tmp_path / "m.safetensors", "m.safetensors cannot be read as a .safetensors file")


def test_files_are_read_from_any_file_system_of_tensorflow(built):
    for folder, readable in (("tf_mixnet_s.in1k", True), ("mixnet_s.ft_in1k", False)):
        remote = f"ram://{folder}/model.npz"
        tf.io.gfile.copy(GOLDEN / "tf_mixnet_s.npz", remote, overwrite=True)
        if readable:
            assert_golden_arrays(remote)
        else:
            assert_refused(built, remote, "is of a network with padding='symmetric'")
