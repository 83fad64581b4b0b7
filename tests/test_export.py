"""The files of a trained digits model: what is in them, what they say, and real clients that open them."""

import json
import pathlib
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf import build_model, layers
from mixnet_tf.export import report, runtime
from mixnet_tf.export.command import Settings, export_command
from mixnet_tf.export.export import Options, export_model
from mixnet_tf.export.images import dataset_images, folder_images
from mixnet_tf.export.metadata import with_metadata
from mixnet_tf.saved import Opened

SIZE = 32  # pixels
BLOCKS = [
    "r1_k3_a1_p1_s11_e1_i16_o16",
    "r1_k3.5.7_a1.1_p1.1_s22_e3_i16_o24",
    "r1_k3.5.7.9.11_a1_p1_s22_e3_i24_o32_se0.5_sw",
    "r1_k5.9_a1.1_p1.1_s11_e3_i32_o32_se0.25_sw",
]
FORMATS = ("fp32", "fp16", "dynamic", "int8", "int8_full", "saved_model")


@pytest.fixture(scope="module")
def digits(data_dir):
    pytest.importorskip("sklearn")
    return {train: dataset_images("digits", data_dir, SIZE, False, None, train) for train in (True, False)}


@pytest.fixture(scope="module")
def trained(digits):
    """Random features with statistics of the data, and a classifier trained on them in closed form."""
    keras.utils.set_random_seed(0)
    model = build_model(blocks_args=BLOCKS, classes=10, input_shape=(SIZE, SIZE, 3), name="mixnet-t")
    images, labels = digits[True].images, digits[True].labels
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            maps = keras.Model(model.input, layer.input)(images[:128]).numpy()
            layer.moving_mean.assign(maps.mean((0, 1, 2)))
            layer.moving_variance.assign(maps.var((0, 1, 2)))
    dense = model.get_layer("head_dense")
    features = keras.Model(model.input, dense.input).predict(images, batch_size=64, verbose=0)
    padded = np.concatenate([features, np.ones((len(features), 1))], -1)
    squares = padded.T @ padded
    ridge = squares + 1e-3 * np.trace(squares) / len(squares) * np.eye(len(squares))  # weights that amplify no noise
    weights = np.linalg.solve(ridge, padded.T @ (5.0 * np.eye(10)[labels]))
    dense.kernel.assign(weights[:-1])
    dense.bias.assign(weights[-1])
    return model


@pytest.fixture(scope="module")
def exported(trained, digits, tmp_path_factory):
    """(folder, report) of every format, verified on 120 of the evaluation's images."""
    folder = tmp_path_factory.mktemp("exported")
    shown = digits[False]
    result = export_model(
        trained,
        str(folder),
        shown.images[:120],
        shown.labels[:120],
        calibration_images=digits[True].images[:100],
        label_names=shown.label_names,
        options=Options(formats=FORMATS, crop=False, author="An author", latency_runs=0),
    )
    return folder, result


def test_units_that_ruin_the_integers_are_left_out(trained, digits, tmp_path, monkeypatch, capsys):
    def ruinous(model, images):
        bn = [layer for layer in model.layers if layer.name == "block_1_mixconv_bn"][0]
        units = np.ones(bn.gamma.shape[0])
        units[0] = 1e-3  # in its units this channel reaches a thousand, and the others keep no digits
        return {bn.name: units}

    monkeypatch.setattr("mixnet_tf.export.export.channel_units", ruinous)
    images, labels = digits[False].images[:60], digits[False].labels[:60]
    options = Options(formats=("int8",), crop=False, latency_runs=0)
    calibration = digits[True].images[:60]
    result = export_model(trained, str(tmp_path), images, labels, calibration_images=calibration, options=options)
    errors = re.findall(r"squared error (\S+)", capsys.readouterr().out)
    assert float(errors[0]) > 10 * float(errors[1])
    assert result["files"][0]["written"]


def row(exported, name):
    return next(found for found in exported[1]["files"] if found["format"] == name)


def test_every_format_is_written_verified_and_reported(exported):
    folder, result = exported
    names = {f"mixnet_t_{SIZE}_{name}" + ("" if name == "saved_model" else ".tflite") for name in FORMATS}
    assert {path.name for path in folder.iterdir()} == names | {"labels.txt", "report.json"}
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(result))
    assert all(found["written"] and not found["failures"] for found in result["files"])
    assert result["large_kernels"] == "split" and result["runtime"]


def test_the_float_file_gives_keras_probabilities_in_one_partition(exported):
    float32 = row(exported, "fp32")
    assert float32["max_difference"] < 1e-5 and float32["top_1_agreement"] == 1
    assert float32["delegate_partitions"] == 1 and float32["flex_ops"] == 0
    assert float32["fully_delegated"] in (True, None)
    assert not {"SPLIT", "SPLIT_V"} & set(float32["ops"])


def test_the_accuracy_is_stated_before_and_after_on_the_same_images(exported, trained, digits):
    images, labels = digits[False].images[:120], digits[False].labels[:120]
    before = (trained.predict(images, verbose=0).argmax(-1) == labels).mean()
    assert before > 0.8
    for name in FORMATS:
        assert row(exported, name)["top_1_accuracy_keras"] == pytest.approx(before)
        assert row(exported, name)["num_images"] == 120
    content = (exported[0] / row(exported, "int8")["file"]).read_bytes()
    after = (runtime.predict(content, images).argmax(-1) == labels).mean()
    assert row(exported, "int8")["top_1_accuracy"] == pytest.approx(after)


def test_int8_stays_within_a_point_of_the_float_accuracy(exported):
    for name in ("int8", "int8_full"):
        assert row(exported, name)["accuracy_drop"] <= 1 / 120


def test_smaller_formats_are_smaller(exported):
    sizes = {name: row(exported, name)["bytes"] for name in FORMATS}
    assert sizes["fp16"] < 0.7 * sizes["fp32"] and sizes["dynamic"] < sizes["fp16"] and sizes["int8"] < sizes["fp16"]


@pytest.mark.parametrize(("name", "dtype"), [("fp32", np.float32), ("int8", np.float32), ("int8_full", np.uint8)])
def test_the_signature_names_its_input_and_output(exported, name, dtype):
    loaded = runtime.interpreter((exported[0] / row(exported, name)["file"]).read_bytes())
    signature = loaded.get_signature_runner("serving_default")
    inputs, outputs = signature.get_input_details(), signature.get_output_details()
    assert list(inputs) == ["image"] and list(outputs) == ["probabilities"]
    assert inputs["image"]["dtype"] == dtype and outputs["probabilities"]["dtype"] == dtype
    assert list(inputs["image"]["shape"]) == [1, SIZE, SIZE, 3]


def test_labels_lie_beside_the_files_and_inside_them(exported, digits):
    names = list(digits[False].label_names)
    assert (exported[0] / "labels.txt").read_text().split() == names
    with zipfile.ZipFile(exported[0] / row(exported, "fp32")["file"]) as archive:
        assert archive.read("labels.txt").decode().split() == names


def test_weights_that_lie_behind_the_flatbuffer_come_along_when_metadata_makes_it_longer(exported, digits):
    """As litert-quantizer writes them."""
    from tensorflow.lite.tools import flatbuffer_utils

    content = (exported[0] / row(exported, "fp32")["file"]).read_bytes()
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    weights, largest.data = bytes(largest.data), None
    largest.offset, largest.size = 16, len(weights)  # a first guess, of the same width as the true place
    largest.offset = -(-len(flatbuffer_utils.convert_object_to_bytearray(model)) // 16) * 16
    outside = flatbuffer_utils.convert_object_to_bytearray(model).ljust(largest.offset, b"\0") + weights
    names = {"input_name": "image", "output_name": "probabilities", "labels": None, "author": None}
    described = with_metadata(outside, name="x", description="x", licence="x", **names)
    images = digits[False].images[:4]
    np.testing.assert_array_equal(runtime.predict(described, images), runtime.predict(content, images))


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_litert_compiled_model_agrees_with_keras(exported, trained, digits, name):
    compiled_model = pytest.importorskip("ai_edge_litert.compiled_model")
    model = compiled_model.CompiledModel.from_file(str(exported[0] / row(exported, name)["file"]))
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    images = digits[False].images[:20]
    tops = []
    for image in images:
        inputs[0].write(np.ascontiguousarray(image[np.newaxis]))
        model.run_by_index(0, inputs, outputs)
        tops.append(np.argmax(outputs[0].read(10, np.float32)))
    expected = trained.predict(images, verbose=0).argmax(-1)
    assert np.mean(tops == expected) >= (1 if name == "fp32" else 0.95)


def test_mediapipe_classifies_with_each_file_alone(exported, trained, digits, tmp_path):
    pytest.importorskip("mediapipe")
    # In a process of its own: MediaPipe brings a runtime of its own.
    client = """
import sys
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
for path in sys.argv[2:]:
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=path), max_results=1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image in np.load(sys.argv[1]):
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            print("top", path, classifier.classify(picture).classifications[0].categories[0].category_name)
"""
    images = np.round(digits[False].images[:20]).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    paths = {name: str(exported[0] / row(exported, name)["file"]) for name in ("fp32", "fp16", "int8", "int8_full")}
    command = [sys.executable, "-c", client, str(tmp_path / "images.npy"), *paths.values()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("top ")]
    names = digits[False].label_names
    expected = [names[top] for top in trained.predict(images.astype(np.float32), verbose=0).argmax(-1)]
    for name, path in paths.items():
        tops = [label for _, at, label in lines if at == path]
        agreement = np.mean([a == b for a, b in zip(tops, expected, strict=True)])
        assert agreement >= (0.95 if "int8" in name else 1), name


def test_the_saved_model_serves_floats_and_encoded_images(exported, trained, digits):
    loaded = tf.saved_model.load(str(exported[0] / row(exported, "saved_model")["file"]))
    images = np.round(digits[False].images[:3])
    encoded = tf.constant([tf.io.encode_png(image.astype(np.uint8)).numpy() for image in images])
    expected = trained.predict(images, verbose=0)
    by_bytes = loaded.signatures["image_bytes"](image_bytes=encoded)["probabilities"]
    by_floats = loaded.signatures["serving_default"](image=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(by_floats, expected, atol=1e-5)
    np.testing.assert_allclose(by_bytes, expected, atol=1e-5)


def test_a_file_of_any_batch_takes_any_batch(trained, tmp_path, digits):
    options = Options(batch_size=0, output="logits", large_kernels="keep", latency_runs=0)
    result = export_model(trained, str(tmp_path), digits[False].images[:8], options=options)
    loaded = runtime.interpreter((tmp_path / result["files"][0]["file"]).read_bytes(), batch_size=5)
    assert list(loaded.get_output_details()[0]["shape"]) == [5, 10]
    assert list(loaded.get_signature_list()["serving_default"]["outputs"]) == ["logits"]


def test_the_part_that_loses_most_by_int8_stays_float_on_request(trained, tmp_path, digits, capsys):
    pytest.importorskip("litert_quantizer")
    options = Options(formats=("int8",), int8_float_parts=1, latency_runs=0)
    images, labels = digits[False].images[:40], digits[False].labels[:40]
    [found] = export_model(
        trained, str(tmp_path), images, labels, calibration_images=digits[True].images[:20], options=options
    )["files"]
    errors = [
        float(line.split("error ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines() if "alone" in line
    ]
    assert len(errors) == 6 and errors == sorted(errors, reverse=True)
    content = (tmp_path / found["file"]).read_bytes()
    details = runtime.interpreter(content).get_tensor_details()
    kinds = {np.dtype(detail["dtype"]).name for detail in details if len(detail["shape"]) == 4}
    assert {"int8", "float32"} <= kinds and found["accuracy_drop"] <= 1 / 40


def test_a_failed_gate_leaves_no_file_and_says_so(trained, tmp_path, digits, monkeypatch):
    monkeypatch.setattr(report, "_MOST_DIFFERENCE", -1.0)
    (tmp_path / f"mixnet_t_{SIZE}_fp32.tflite").write_bytes(b"an older export")
    with pytest.raises(ValueError, match="fp32: outputs differ from Keras'"):
        export_model(trained, str(tmp_path), digits[False].images[:4], options=Options(latency_runs=0))
    assert {path.name for path in tmp_path.iterdir()} == {"report.json"}
    assert json.loads((tmp_path / "report.json").read_text())["files"][0]["failures"]


def test_gates_judge_by_what_was_measured():
    good = {"max_difference": 1e-7, "top_1_agreement": 1.0, "accuracy_drop": 0.0, "flex_ops": 0}
    assert report.judge("fp32", good) == ([], [])
    assert report.judge("fp32", {**good, "max_difference": 2e-5})[0]
    assert report.judge("fp32", {**good, "max_difference": float("nan")})[0]
    assert report.judge("fp32", {**good, "top_1_agreement": 0.999})[0]
    assert report.judge("fp16", {**good, "top_1_agreement": 0.994})[0] and not report.judge("fp16", good)[0]
    assert report.judge("dynamic", {**good, "top_1_agreement": 0.96})[0]
    assert report.judge("int8", {**good, "accuracy_drop": 0.02}) == (
        [],
        ["top-1 accuracy falls by 2.00%, more than 1%"],
    )
    assert report.judge("int8", {**good, "accuracy_drop": 0.04})[0]
    assert report.judge("fp32", {**good, "flex_ops": 1})[0]


def test_the_drop_and_its_standard_error_are_those_of_paired_images():
    expected, actual = np.eye(3)[[0, 1, 2, 0]], np.eye(3)[[0, 1, 1, 1]]
    compared = report.compare(expected, actual, np.array([0, 1, 2, 1]))
    assert compared["top_1_accuracy_keras"] == 0.75 and compared["top_1_accuracy"] == 0.75
    assert compared["accuracy_drop"] == 0 and compared["top_1_agreement"] == 0.5
    assert compared["accuracy_drop_standard_error"] == pytest.approx(np.std([0, 0, 1, -1]) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ("fp8",)}, "formats: expected some of"),
        ({"formats": ()}, "formats: expected some of"),
        ({"formats": ("int8",)}, "calibration images"),
        ({"large_kernels": "cut"}, "large_kernels: expected"),
        ({"batch_size": -1}, "batch_size: expected"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_work(trained, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_model(trained, str(tmp_path / "out"), tiny.images(1, SIZE, SIZE, 3), options=Options(**options))
    assert not (tmp_path / "out").exists()


def test_labels_of_another_count_are_refused_before_any_work(trained, tmp_path):
    with pytest.raises(ValueError, match="3 labels do not fit a model of 10 classes"):
        export_model(trained, str(tmp_path / "out"), tiny.images(1, SIZE, SIZE, 3), label_names=("a", "b", "c"))
    assert not (tmp_path / "out").exists()


SCRIPT = pathlib.Path(__file__).parents[1] / "export_tflite.py"


def test_the_script_exports_a_keras_file(trained, data_dir, tmp_path):
    trained.save(tmp_path / "model.keras")
    flags = ["--dataset=digits", f"--data_dir={data_dir}", "--num_images=8", "--latency_runs=0"]
    command = [sys.executable, str(SCRIPT), f"--weights={tmp_path / 'model.keras'}", f"--output_dir={tmp_path / 'out'}"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / f"mixnet_t_{SIZE}_fp32.tflite").exists() and "top-1" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--formats=fp8"], "formats: expected some of"),
        (["--weights=missing.keras", "--dataset=digits"], "no file missing.keras"),
    ],
)
def test_bad_flags_are_one_line_and_no_zero(flags, message):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--output_dir=never", *flags], capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 and message in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr and not pathlib.Path("never").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("never", images="nowhere"), "no folder nowhere"),
        (Settings("never", images=".", dataset="digits"), "not both"),
        (Settings("never"), "give --dataset=NAME or --images=FOLDER"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(trained, settings, message):
    with pytest.raises(ValueError, match=message):
        export_command(Opened(trained, "model.keras", None), settings, Options())


def test_a_folder_without_readable_images_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        folder_images(str(tmp_path), SIZE, True, None)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="broken.jpg cannot be read as an image"):
        folder_images(str(tmp_path), SIZE, True, None)


def test_images_of_a_folder_are_verified_and_calibrated_with(trained, tmp_path, photographs):
    for name, path in photographs.items():
        (tmp_path / name).write_bytes(pathlib.Path(path).read_bytes())
    settings = Settings(str(tmp_path / "out"), images=str(tmp_path))
    # Photographs are nothing that the classifier knows; the gate is not what is asked here.
    options = Options(formats=("int8",), latency_runs=0, allow_accuracy_drop=True)
    [found] = export_command(Opened(trained, "model.keras", None), settings, options)["files"]
    assert found["num_images"] == 2 and "top_1_accuracy" not in found and found["written"]


@pytest.mark.parametrize("document, language", [("README.md", "py"), ("docs/DEPLOYMENT.md", "python")])
def test_the_documented_client_needs_nothing_of_ours(document, language, exported):
    text = (SCRIPT.parent / document).read_text()
    client = re.search(rf"```{language}\n(import numpy.*?)```", text, re.DOTALL)[1]
    assert "mixnet_tf" not in client and "Interpreter(" in client
    client = client.replace("mixnet_s_48", f"mixnet_t_{SIZE}").replace("48", str(SIZE))
    done = subprocess.run(
        [sys.executable, "-I", "-c", client], cwd=exported[0], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    names = (exported[0] / "labels.txt").read_text().splitlines()
    assert len(lines) == 5 and {name for _, name in lines} <= set(names)
    assert [float(p) for p, _ in lines] == sorted((float(p) for p, _ in lines), reverse=True)


@pytest.mark.soak
def test_every_format_of_a_full_size_network_is_written(tmp_path, photographs):
    keras.utils.set_random_seed(0)
    model = build_model("mixnet-s", input_shape=(224, 224, 3))
    images = np.stack(
        [tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path)), (224, 224)).numpy() for path in photographs.values()]
    )
    # Untrained, so int8 is asked for and not judged.
    options = Options(formats=FORMATS, allow_accuracy_drop=True, latency_runs=0)
    found = export_model(model, str(tmp_path), images, calibration_images=images, options=options)["files"]
    by_format = {each["format"]: each for each in found}
    assert by_format["fp32"]["max_difference"] < 1e-5 and by_format["fp32"]["delegate_partitions"] == 1
    assert by_format["int8"]["delegate_partitions"] <= 2  # an int8 softmax is not delegated
    assert by_format["int8"]["bytes"] < 0.4 * by_format["fp32"]["bytes"]
    assert all((tmp_path / each["file"]).exists() for each in found)
