"""The export of a detector in int8."""

import exported_detector
import numpy as np
import pytest
from exported_detector import SIZE, export, suppression_of

from mixnet_tf.detection import CODE_SCALES, decode
from mixnet_tf.export import Detector, ExportOptions, calibrate, runtime
from mixnet_tf.export.activations import Activations
from mixnet_tf.export.detector import distance, outputs_of
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.rewrite import InferenceFunction


@pytest.fixture(scope="module")
def calibration_images():
    return exported_detector.pictures(20, seed=1)


@pytest.fixture(scope="module")
def int8(detector, pictures, calibration_images, tmp_path_factory):
    """The int8 contents of the form without postprocessing, and its report."""
    folder = tmp_path_factory.mktemp("int8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "FRACTIONS", (1.0,))
        patch.setattr(calibrate, "_NEAR", 1.0)
        options = {"formats": ("int8",), "postprocess": "none", "calibration_images": calibration_images}
        result, _ = export(detector, folder, pictures, **options)
    return (folder / result["files"][0]["file"]).read_bytes(), result


@pytest.mark.soak
@pytest.mark.parametrize("accelerator", ["cpu", "gpu", "npu"])
def test_int8_full_takes_bytes_and_answers_in_floats(
    accelerator, int8, detector, pictures, calibration_images, tmp_path
):
    task = Detector(detector, ExportOptions(formats=("int8_full",), accelerator=(accelerator,), postprocess="boxes"))
    content = Graphs(task, None, str(tmp_path)).int8("boxes", calibration_images, None, None, "int8_full", accelerator)
    loaded = runtime.interpreter(content)
    [image] = loaded.get_input_details()
    assert image["dtype"] == np.uint8 and image["quantization"] == (1.0, 0)
    assert {detail["dtype"] for detail in loaded.get_output_details()} == {np.float32}
    found, raw = outputs_of(content, pictures), outputs_of(int8[0], pictures)
    expected = Detector(detector, ExportOptions()).answers(pictures)
    assert np.abs(found["scores"] - expected["scores"]).mean() < 1.5 * np.abs(raw["scores"] - expected["scores"]).mean()
    boxes = decode(expected["boxes"], task.decoding.anchors)
    assert np.abs(found["location"] - boxes).mean() < 0.02


def test_in_int8_each_map_keeps_a_scale_of_its_own(int8, detector, pictures):
    content, result = int8
    [row] = result["files"]
    assert row["file"] == f"small_ssdlite_{SIZE}_int8_raw.tflite" and row["written"]
    assert row["ops"]["DEQUANTIZE"] >= 12 and row["flex_ops"] == 0
    tensors = [detail for detail in runtime.interpreter(content).get_tensor_details() if detail["dtype"] == np.int8]
    for kind in ("boxes", "logits"):
        scales = {d["quantization"][0] for d in tensors if d["name"].startswith(f"{kind}_") and "_anchors" in d["name"]}
        assert len(scales) == 6, kind
    behind = runtime.tensors_behind(content, "RESHAPE")
    assert len(behind) >= 6 and not any("_anchors" in name and "/concat" in name for name in behind)


def test_int8_answers_are_near_keras(int8, detector, pictures):
    content, result = int8
    expected = Detector(detector, ExportOptions()).answers(pictures)
    assert distance(outputs_of(content, pictures), expected, CODE_SCALES) < 0.2
    assert result["calibration"]["distance_from_keras"] < 0.2
    assert distance(expected, expected, CODE_SCALES) == 0
    shifted = {**expected, "boxes": expected["boxes"] + 0.1 * np.array(CODE_SCALES, np.float32)}
    assert distance(shifted, expected, CODE_SCALES) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.soak
def test_int8_with_the_postprocessing_finds_what_it_does_without(
    int8, detector, pictures, calibration_images, tmp_path
):
    task = Detector(detector, ExportOptions(formats=("int8",)))
    found = task.predict_function(Graphs(task, None, str(tmp_path)).int8("nms", calibration_images))(pictures)
    raw = outputs_of(int8[0], pictures)
    expected = {name: np.array(value) for name, value in suppression_of(detector)(raw["boxes"], raw["scores"]).items()}
    for number in range(len(pictures)):
        np.testing.assert_allclose(found["scores"][number][:5], expected["scores"][number][:5], atol=1e-3)


def test_channels_in_their_own_units_change_no_answer(detector, pictures):
    units = Activations(detector, pictures).units()
    assert len(units) > 15
    answers = InferenceFunction(detector, "keep", units)(pictures[:1])
    expected = detector(pictures[:1])
    for name in ("boxes", "logits"):
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(answers[name], expected[name], rtol=0, atol=3e-5 * largest)
