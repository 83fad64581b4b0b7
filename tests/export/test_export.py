"""The files of a trained digits model: what is in them, what is said of them, and when they are not written."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from exported_digits import FORMATS, SIZE, row

from mixnet_tf import build_model
from mixnet_tf.export import ExportOptions, export_model, gates, report, runtime
from mixnet_tf.export.convert import ConversionError
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.metadata import FEATURES, Output, with_metadata


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
    names = {"input_name": "image", "labels": None, "author": None}
    outputs = [Output("probabilities", "x", FEATURES)]
    described = with_metadata(outside, name="x", description="x", license="x", outputs=outputs, **names)
    images = digits[False].images[:4]
    np.testing.assert_array_equal(runtime.predict(described, images), runtime.predict(content, images))


@pytest.mark.soak
def test_the_part_that_loses_most_by_int8_stays_float_on_request(trained, tmp_path, digits, logged, one_calibration):
    pytest.importorskip("litert_quantizer")
    options = ExportOptions(formats=("int8",), int8_float_parts=1, latency_runs=0)
    images, labels = digits[False].images[:40], digits[False].labels[:40]
    calibration = digits[True].images[:20]
    [found] = export_model(trained, str(tmp_path), images, labels, calibration_images=calibration, options=options)[
        "files"
    ]
    errors = [float(line.split("error ")[1].split(",")[0]) for line in logged().splitlines() if "alone: mean" in line]
    assert len(errors) == 6 and errors == sorted(errors, reverse=True)
    content = (tmp_path / found["file"]).read_bytes()
    details = runtime.interpreter(content).get_tensor_details()
    kinds = {np.dtype(detail["dtype"]).name for detail in details if len(detail["shape"]) == 4}
    assert {"int8", "float32"} <= kinds and found["accuracy_drop"] <= 1 / 40


def test_a_format_that_fails_leaves_the_others_and_sets_its_older_file_aside(untrained, tmp_path, digits, monkeypatch):
    monkeypatch.setitem(gates._MIN_AGREEMENT, "fp16", 1.1)
    (tmp_path / f"mixnet_t_{SIZE}_fp16.tflite").write_bytes(b"an older export")
    images, options = digits[False].images[:4], ExportOptions(formats=("fp16", "fp32"), latency_runs=0)
    result = export_model(untrained, str(tmp_path), images, options=options)
    names = {f"mixnet_t_{SIZE}_fp16.tflite.old", f"mixnet_t_{SIZE}_fp32.tflite", "report.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / f"mixnet_t_{SIZE}_fp16.tflite.old").read_bytes() == b"an older export"
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(result))
    failed, passed = result["files"]
    assert not failed["written"] and failed["failures"] and failed["older_file"] == f"mixnet_t_{SIZE}_fp16.tflite.old"
    assert passed["written"] and not passed["failures"]
    out = report.text(result)
    assert "Not written: fp16: top-1 is Keras' for 100.00% of the images" in out and "--allow_accuracy_drop" in out


def test_what_was_set_aside_before_is_never_lost(untrained, tmp_path, digits, monkeypatch):
    monkeypatch.setitem(gates._MIN_AGREEMENT, "saved_model", 1.1)
    name = f"mixnet_t_{SIZE}_saved_model"
    for suffix in ("", ".old"):
        (tmp_path / (name + suffix)).mkdir()
        (tmp_path / (name + suffix) / "which").write_text(suffix)
    options = ExportOptions(formats=("saved_model",), latency_runs=0)
    [row] = export_model(untrained, str(tmp_path), digits[False].images[:4], options=options)["files"]
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.old", f"{name}.old.old", "report.json"}
    assert row["older_file"] == f"{name}.old.old" and (tmp_path / row["older_file"] / "which").read_text() == ""
    assert (tmp_path / f"{name}.old" / "which").read_text() == ".old"


def test_a_format_that_cannot_be_converted_is_one_that_failed(untrained, tmp_path, digits, monkeypatch):
    def convert(graphs, format_name, accelerator):
        if format_name == "fp16":
            raise ConversionError("the reason")
        return whole(graphs, format_name, accelerator)

    whole = Graphs.convert
    monkeypatch.setattr(Graphs, "convert", convert)
    images, options = digits[False].images[:4], ExportOptions(formats=("fp16", "fp32"), latency_runs=0)
    failed, passed = export_model(untrained, str(tmp_path), images, options=options)["files"]
    assert failed["failures"] == ["the reason"] and not failed["written"] and passed["written"]


def test_an_export_that_ends_in_the_middle_leaves_the_older_files_with_their_report(
    untrained, tmp_path, digits, monkeypatch
):
    def convert(graphs, format_name, accelerator):
        if format_name == "fp16":
            raise RuntimeError("out of memory")
        return whole(graphs, format_name, accelerator)

    whole = Graphs.convert
    monkeypatch.setattr(Graphs, "convert", convert)
    older = {"report.json": b"older report", "labels.txt": b"older", f"mixnet_t_{SIZE}_fp32.tflite": b"older file"}
    for name, content in older.items():
        (tmp_path / name).write_bytes(content)
    options = ExportOptions(formats=("fp32", "fp16"), latency_runs=0)
    names = digits[False].label_names
    with pytest.raises(RuntimeError):
        export_model(untrained, str(tmp_path), digits[False].images[:4], label_names=names, options=options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == older


def test_gates_judge_by_what_was_measured():
    good = {"max_difference": 1e-7, "typical_difference": 1e-7, "top_1_agreement": 1.0, "flex_ops": 0}
    assert gates.judge("fp32", good) == ([], [])
    assert gates.judge("fp32", {**good, "max_difference": 2e-5, "typical_difference": 2e-5})[0]
    assert not gates.judge("fp32", {**good, "max_difference": 2e-5})[0]  # rounding, on an image between two classes
    assert gates.judge("fp32", {**good, "max_difference": 2e-4})[0]
    assert gates.judge("fp32", {**good, "max_difference": float("nan")})[0]
    assert gates.judge("fp32", {**good, "top_1_agreement": 0.999})[0]
    assert gates.judge("fp16", {**good, "top_1_agreement": 0.994})[0] and not gates.judge("fp16", good)[0]
    assert gates.judge("dynamic", {**good, "top_1_agreement": 0.96})[0]
    assert gates.judge("fp32", {**good, "flex_ops": 1})[0]


def test_a_network_that_rounding_changes_more_is_measured_by_keras_itself(untrained, digits, tmp_path, monkeypatch):
    far = {"max_difference": 2e-4, "typical_difference": 4e-5, "top_1_agreement": 1.0, "flex_ops": 0}
    keras_too = {"keras_max_difference": 1.01e-4, "keras_typical_difference": 2.01e-5}
    assert not gates.judge("fp32", {**far, **keras_too})[0]
    [failure] = gates.judge("fp32", {**far, **keras_too, "keras_typical_difference": 1.9e-5})[0]
    assert "Keras with other batches by 1.9e-05" in failure
    assert gates.judge("fp32", {**far, **keras_too, "top_1_agreement": 0.99})[0]

    for name in ("_MAX_TYPICAL_DIFFERENCE", "_MAX_DIFFERENCE"):
        monkeypatch.setattr(gates, name, -1.0)  # no file is near enough
    images, options = digits[False].images[:40], ExportOptions(formats=("fp32",), latency_runs=0)
    whole = untrained.predict(images, batch_size=32, verbose=0)
    single = np.concatenate([untrained.predict_on_batch(images[i : i + 1]) for i in range(40)])
    own = float(np.abs(whole - single).max())
    for largest_ratio in (1e6, -1e6):
        monkeypatch.setattr(gates, "_MAX_OF_KERAS", largest_ratio)
        [row] = export_model(untrained, str(tmp_path), images, options=options)["files"]
        assert row["keras_max_difference"] == own
        assert row["written"] == (row["max_difference"] <= max(-1.0, largest_ratio * own))


def lost(images, losses, gains=0, labels=True):
    """A model's row of which `losses` images went wrong and `gains` right; without labels both just differ."""
    expected, actual = np.eye(2)[np.zeros(images, int)], np.eye(2)[np.zeros(images, int)]
    truth = np.zeros(images, int)
    truth[losses : losses + gains] = 1
    actual[: losses + gains] = [0, 1]
    return gates.compare(expected, actual, truth if labels else None)


@pytest.mark.parametrize(
    ("row", "failures", "warnings"),
    [
        (lost(360, 0), 0, 0),
        (lost(360, 1), 0, 0),  # 0.28 points
        (lost(360, 2), 0, 1),  # 0.56
        (lost(360, 8), 0, 1),  # 2.22 +-0.78: chance, at 95%
        (lost(360, 9), 1, 0),  # 2.50 +-0.82
        (lost(360, 20, gains=15), 0, 1),  # 1.39 +-1.64
        (lost(50000, 501), 0, 1),  # 1.002 +-0.04
        (lost(50000, 600), 1, 0),
        (lost(99, 4), 0, 1),
        (lost(99, 5), 1, 0),
        (lost(100, 3), 0, 1),
        (lost(100, 5), 1, 0),
        (lost(360, 5, gains=4, labels=False), 1, 0),  # 9 answers of 360 are not Keras'
        (lost(360, 1, gains=1, labels=False), 0, 1),
        (lost(360, 0, labels=False), 0, 0),
    ],
)
@pytest.mark.parametrize("name", ["int8", "int8_full"])
def test_int8_fails_where_more_than_a_point_is_lost_beyond_chance(name, row, failures, warnings):
    found = gates.judge(name, row)
    assert [len(sentences) for sentences in found] == [failures, warnings]
    assert all("+-" in sentence for sentences in found for sentence in sentences)


def test_the_table_shows_what_is_lost_and_its_standard_error():
    row = {"format": "int8", "file": "x", "bytes": 10, "failures": [], "warnings": [], "written": True, **lost(360, 8)}
    result = {"files": [row], "runtime": "R", "large_kernels": "split", "num_images": 360, "machine": "M"}
    printed = report.text(result)
    assert " 2.22 +-0.78 " in printed and "lost: points of top-1 accuracy" in printed
    result["files"] = [{**row, **lost(360, 8, labels=False)}]
    del result["files"][0]["accuracy_drop"]
    assert "lost: images, in 100, whose top-1 is not Keras'" in report.text(result)


def test_the_drop_and_its_standard_error_are_those_of_paired_images():
    expected, actual = np.eye(3)[[0, 1, 2, 0]], np.eye(3)[[0, 1, 1, 1]]
    compared = gates.compare(expected, actual, np.array([0, 1, 2, 1]))
    assert compared["top_1_accuracy_keras"] == 0.75 and compared["top_1_accuracy"] == 0.75
    assert compared["accuracy_drop"] == 0 and compared["top_1_agreement"] == 0.5
    assert compared["accuracy_drop_standard_error"] == pytest.approx(np.std([0, 0, 1, -1]) / 2)
    unlabelled = gates.compare(expected, actual, None)
    assert unlabelled["disagreement"] == 0.5 and "accuracy_drop" not in unlabelled
    assert unlabelled["disagreement_standard_error"] == pytest.approx(np.std([0, 0, 1, 1]) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ("fp8",)}, "formats: expected some of"),
        ({"formats": ()}, "formats: expected some of"),
        ({"formats": ("int8",)}, "calibration images"),
        ({"large_kernels": "cut"}, "large_kernels: expected"),
        ({"batch_size": -1}, "batch_size: expected"),
        ({"int8_float_parts": 1}, "int8_float_parts goes with the format int8"),
        ({"formats": ("fp32", "int8"), "int8_float_parts": 4}, "expected a number from 0 to 3; received 4"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_work(untrained, tmp_path, options, message):
    images = tiny.images(1, SIZE, SIZE, 3)
    calibration = None if "calibration" in message else images
    with pytest.raises(ValueError, match=message):
        export_model(
            untrained, str(tmp_path / "out"), images, calibration_images=calibration, options=ExportOptions(**options)
        )
    assert not (tmp_path / "out").exists()


def test_labels_of_another_count_are_refused_before_any_work(untrained, tmp_path):
    with pytest.raises(ValueError, match="3 labels do not fit a model of 10 classes"):
        export_model(untrained, str(tmp_path / "out"), tiny.images(1, SIZE, SIZE, 3), label_names=("a", "b", "c"))
    assert not (tmp_path / "out").exists()


def test_float_parts_without_their_package_are_refused_before_any_work(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    images, options = tiny.images(1, SIZE, SIZE, 3), ExportOptions(formats=("fp32", "int8"), int8_float_parts=1)
    with pytest.raises(ValueError, match="pip install litert-quantizer"):
        export_model(untrained, str(tmp_path / "out"), images, calibration_images=images, options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
def test_every_format_of_a_full_size_network_is_written(tmp_path, photographs):
    keras.utils.set_random_seed(0)
    model = build_model("mixnet-s", input_shape=(224, 224, 3))
    images = np.stack(
        [tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path)), (224, 224)).numpy() for path in photographs.values()]
    )
    # Untrained, so int8 is asked for and not judged.
    options = ExportOptions(formats=FORMATS, allow_accuracy_drop=True, latency_runs=0)
    found = export_model(model, str(tmp_path), images, calibration_images=images, options=options)["files"]
    by_format = {each["format"]: each for each in found}
    assert by_format["fp32"]["max_difference"] < 1e-5 and by_format["fp32"]["delegate_partitions"] == 1
    assert by_format["int8"]["delegate_partitions"] <= 2  # an int8 softmax is not delegated
    assert by_format["int8"]["bytes"] < 0.4 * by_format["fp32"]["bytes"]
    assert all((tmp_path / each["file"]).exists() for each in found)
