"""Int8 that holds: odd images among those that it is calibrated with, and the choice of ranges and units."""

import keras
import numpy as np
import pytest
from exported_digits import SIZE, row
from scripts import process

from mixnet_tf import networks
from mixnet_tf.export import Classifier, ExportOptions, ExportSettings, calibrate, export_opened, quantize, runtime
from mixnet_tf.export.activations import Activations
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.saved_models import open_model

# No photograph is like this: each channel of each pixel is 0 or 255. It drives the classifier far.
RUNAWAY = 255.0 * np.random.default_rng(0).integers(0, 2, (SIZE, SIZE, 3))
FRACTIONS = calibrate.FRACTIONS
BLACK, WHITE = np.zeros((SIZE, SIZE, 3)), np.full((SIZE, SIZE, 3), 255.0)


@pytest.fixture(scope="module", autouse=True)
def fewer_conversions():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "FRACTIONS", (0.9,))
        yield


@pytest.fixture(scope="module")
def calibration_images(digits):
    return digits[True].images[:100]


def graphs(model, images, folder, **options):
    return Graphs(Classifier(model, ExportOptions(formats=("int8",), **options)), images, str(folder))


def among(images, *odd):
    return np.concatenate([images[:50], np.array(odd).reshape(-1, *images.shape[1:]), images[50:]]).astype(np.float32)


def accuracy(content, digits):
    return (runtime.predict(content, digits[False].images).argmax(-1) == digits[False].labels).mean()


@pytest.fixture(scope="module")
def undisturbed(exported, digits):
    """The accuracy of int8 without any odd image."""
    return accuracy((exported[0] / row(exported, "int8")["file"]).read_bytes(), digits)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param([RUNAWAY], id="a runaway image"),
        pytest.param([BLACK, WHITE], id="black and white", marks=pytest.mark.soak),
    ],
)
def test_odd_images_among_the_calibration_images_change_nothing(
    odd, trained, digits, calibration_images, undisturbed, tmp_path, logged, one_calibration
):
    images = among(calibration_images, *odd)
    found = graphs(trained, images, tmp_path)
    for name in ("int8", "int8_full") if odd == [RUNAWAY] else ("int8",):
        assert accuracy(found.convert(name), digits) == pytest.approx(undisturbed, abs=0.02)  # 7 images of 360
    left_out = found.calibration.left_out
    assert f"{left_out} of {len(images)} calibration images are left out: their activations" in logged()
    assert found.calibration.summary() == {
        "images": len(images),
        "kept": pytest.approx(1 - left_out / len(images)),
        "left_out": left_out,
        "channel_units": False,
        "distance_from_keras": found.calibration.error,
    }


def test_ranges_that_include_a_runaway_image_ruin_int8(trained, digits, calibration_images, undisturbed, tmp_path):
    found = graphs(trained, among(calibration_images, RUNAWAY), tmp_path)
    assert accuracy(found.int8("", among(calibration_images, RUNAWAY)), digits) < undisturbed - 0.2


@pytest.mark.soak
def test_a_mixnet_inside_another_model_is_calibrated_on_typical_images_too(
    trained, digits, calibration_images, undisturbed, tmp_path
):
    base = keras.Model(trained.input, trained.get_layer("head_activation").output)
    pool = keras.layers.GlobalAveragePooling2D()
    own = keras.Sequential([base, pool, keras.layers.Dense(10, activation="softmax")])
    own.layers[-1].set_weights(trained.get_layer("head_dense").get_weights())
    found = graphs(own, among(calibration_images, RUNAWAY), tmp_path)
    assert accuracy(found.convert("int8"), digits) == pytest.approx(undisturbed, abs=0.02)
    assert found.calibration.left_out > 0


def scripted(monkeypatch, model, images, errors):
    """`calibrate` where the candidates have these errors in turn, and the number of images and units each took."""
    asked = []
    monkeypatch.setattr(calibrate, "FRACTIONS", FRACTIONS)
    errors = iter(errors)

    def convert(units, chosen, seen):
        asked.append((len(chosen), bool(units)))
        return b"%d %d" % asked[-1]

    return calibrate.calibrate(Activations(model, images), images, convert, lambda *_: next(errors)), asked


def test_the_nearest_share_wins_and_units_only_at_less_than_half_its_error(monkeypatch, untrained, calibration_images):
    best, asked = scripted(monkeypatch, untrained, calibration_images, [0.3, 0.2, 0.25, 0.5, 0.11])
    assert asked == [(95, False), (90, False), (80, False), (100, False), (90, True)]
    assert (best.left_out, best.kept, best.units, best.content) == (10, 0.9, {}, b"90 0")
    best, _ = scripted(monkeypatch, untrained, calibration_images, [0.3, 0.2, 0.25, 0.5, 0.09])
    assert (best.left_out, best.content) == (10, b"90 1") and best.units
    best, _ = scripted(monkeypatch, untrained, calibration_images, [0.3, 0.2, 0.25, 0.1, 0.09])
    assert (best.left_out, best.content) == (0, b"100 0")


def test_neither_all_images_nor_units_are_tried_where_int8_is_near(monkeypatch, untrained, calibration_images):
    best, asked = scripted(monkeypatch, untrained, calibration_images, [0.015, 0.01, 0.018])
    assert asked == [(95, False), (90, False), (80, False)] and best.content == b"90 0"


def test_of_two_images_both_are_kept(monkeypatch, untrained, calibration_images):
    best, asked = scripted(monkeypatch, untrained, calibration_images[:2], [0.5, 0.4])
    assert asked == [(2, False), (2, True)] and best.left_out == 0


def test_an_error_that_is_no_number_never_wins_and_equal_ones_keep_the_first(
    monkeypatch, untrained, calibration_images
):
    nan = float("nan")
    best, _ = scripted(monkeypatch, untrained, calibration_images, [nan, 0.3, 0.3, nan, nan])
    assert best.content == b"90 0"
    best, _ = scripted(monkeypatch, untrained, calibration_images, [nan, nan, nan, nan, 0.3])
    assert best.content == b"95 1"


def test_an_image_that_is_not_finite_is_the_first_to_be_left_out(monkeypatch, untrained, calibration_images):
    broken = calibration_images[:20].copy()
    broken[3, 0, 0, 0] = np.nan
    best, _ = scripted(monkeypatch, untrained, broken, [0.01, 0.02, 0.02])
    np.testing.assert_array_equal(best.images, np.delete(broken, 3, axis=0))


def test_units_that_ruin_the_integers_are_not_taken(trained, calibration_images, tmp_path, monkeypatch):
    def ruinous(activations, chosen):
        [bn] = [layer for layer in activations.largest if layer.name == "block_1_mixconv_bn"]
        units = np.ones(bn.gamma.shape[0])
        units[0] = 1e-3  # in its units this channel reaches a thousand, and the others keep no digits
        return {bn: units}

    monkeypatch.setattr(Activations, "units", ruinous)
    monkeypatch.setattr(calibrate, "_NEAR", 0.0)
    monkeypatch.setattr(calibrate, "FRACTIONS", (1.0,))
    found = graphs(trained, calibration_images[:20], tmp_path)
    found.convert("int8")
    assert set(found._folders) == {"cpu_int8", "cpu_int8_in_units"} and not found.calibration.units


@pytest.mark.soak
def test_units_save_a_network_whose_channels_differ_a_thousandfold(trained, calibration_images, tmp_path):
    disparate = keras.models.clone_model(trained)
    disparate.set_weights(trained.get_weights())
    for name in ("block_1_mixconv", "block_0_mixconv"):  # followed by ReLU and a convolution: exact to undo
        bn, conv = disparate.get_layer(f"{name}_bn"), disparate.get_layer(name.replace("mixconv", "project_conv"))
        factors = 10.0 ** np.random.default_rng(0).uniform(-3, 0, bn.gamma.shape[0])
        bn.gamma.assign(bn.gamma * factors)
        bn.beta.assign(bn.beta * factors)
        start = 0
        for kernel in conv.kernels:
            part = factors[start : start + kernel.shape[2]]
            kernel.assign(kernel / part[:, np.newaxis])
            start += kernel.shape[2]
    expected = trained.predict(calibration_images, verbose=0)
    np.testing.assert_allclose(disparate.predict(calibration_images, verbose=0), expected, atol=1e-4)
    found = graphs(disparate, calibration_images, tmp_path)
    found.convert("int8")
    assert found.calibration.units and found.calibration.summary()["channel_units"]


def test_a_wrong_image_counts_once_however_wrong_it_is():
    expected, actual = np.eye(3)[[0, 1, 2, 0]], np.eye(3)[[0, 1, 2, 1]]
    assert calibrate.distance(actual, expected) == 0.25
    assert calibrate.distance(1e6 * actual, expected) == 1.0  # not probabilities: each image still at most 1
    logits = np.array([[1.0, 2.0, 3.0]])
    assert calibrate.distance(logits + 100, logits, logits=True) == pytest.approx(0)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    expected = 0.5 * np.abs(probabilities - 1 / 3).sum()
    assert calibrate.distance(logits, 0 * logits, logits=True) == pytest.approx(expected)


def test_the_converter_sees_the_calibration_images_and_the_ends_of_the_range():
    images = np.full((3, 4, 4, 3), 100.0, np.float32)
    seen = [batch["image"] for batch in quantize.representative_dataset(images)()]
    assert [batch.shape for batch in seen] == [(1, 4, 4, 3)] * 3
    assert seen[0].min() == 0 and seen[0].max() == 255 and (seen[0] == 100).sum() == (16 - 2) * 3
    assert all((batch == 100).all() for batch in seen[1:]) and (images == 100).all()


def test_the_ranges_of_a_layer_that_is_not_mixnets_need_no_units(trained):
    own = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.BatchNormalization(), keras.layers.Flatten()])
    activations = Activations(own, np.full((2, SIZE, SIZE, 3), 7.0, np.float32))
    assert activations.units() == {} and activations.scores() == pytest.approx(np.log(7), abs=1e-3)
    assert not any(isinstance(layer, networks.BatchNormalization) for layer in own.layers)


_FASTER = {"TF_ENABLE_ONEDNN_OPTS": "0"}  # at 32 px a step takes 0.7 of the time without oneDNN


@pytest.mark.seeds
@pytest.mark.parametrize(("model_name", "seed"), [*(("mixnet-s", seed) for seed in range(4)), ("mixnet-m", 0)])
def test_int8_of_a_network_trained_on_digits_is_within_0_6_points_of_float(
    model_name, seed, data_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(calibrate, "FRACTIONS", FRACTIONS)
    flags = (f"--model_name={model_name}", f"--seed={seed}", "--deterministic", f"--data_dir={data_dir}")
    done = process("train.py", *flags, "--eval_every=0", f"--model_dir={tmp_path}", timeout=3600, **_FASTER)
    assert done.returncode == 0, done.stderr[-2000:]
    opened = open_model(model_dir=tmp_path)
    settings = ExportSettings(str(tmp_path / "export"), data_dir=data_dir)
    options = ExportOptions(formats=("fp32", "int8", "int8_full"), latency_runs=0)
    rows = export_opened(opened, settings, options)["files"]
    assert [row["num_images"] for row in rows] == [360] * 3 and all(row["written"] for row in rows)
    assert rows[0]["accuracy_drop"] == 0
    assert [row["format"] for row in rows if abs(row["accuracy_drop"]) > 0.006] == []
