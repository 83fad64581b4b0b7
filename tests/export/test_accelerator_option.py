"""Files for a phone's GPU and NPU: their names, their ops, and what the report says of them."""

import re

import exported_detector
import numpy as np
import pytest
import tiny
from scripts import ROOT

import mixnet_tf
from mixnet_tf import build_model, export_model
from mixnet_tf.detection import anchors_of
from mixnet_tf.export import ExportOptions, calibrate, report, runtime
from mixnet_tf.export.arithmetics import arithmetic_of
from mixnet_tf.export.detector import outputs_of

_SIZE = 32


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder, report, model) of a small network in three formats, each for every accelerator."""
    blocks = ["r1_k3.7_a1_p1.1_s22_e2_i8_o16_se0.5_sw", "r1_k3.5_a1.1_p1.1_s11_e2_i16_o16_sw"]
    model = build_model(
        blocks_args=blocks, override_params={"stem_size": 8}, classes=3, input_shape=(_SIZE,) * 2 + (3,), name="net"
    )
    tiny.randomise(model)
    images, folder = tiny.images(8, _SIZE, _SIZE, 3), tmp_path_factory.mktemp("accelerators")
    options = ExportOptions(
        formats=("fp32", "int8_full", "saved_model"), accelerator=("gpu", "cpu", "npu"), latency_runs=1,
        half_precision_images=0, allow_accuracy_drop=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:  # one calibration, of all images
        patch.setattr(calibrate, "FRACTIONS", (1.0,))
        patch.setattr(calibrate, "_NEAR", 1.0)
        result = export_model(model, folder, images, calibration_images=images, options=options)
    return folder, result, model


def test_each_accelerator_has_files_of_its_name(exported):
    folder, result, _ = exported
    names = [f"net_{_SIZE}_{form}{word}.tflite" for word in ("_gpu", "", "_npu") for form in ("fp32", "int8_full")]
    assert {path.name for path in folder.iterdir()} == {*names, f"net_{_SIZE}_saved_model", "report.json"}
    rows = result["files"]
    assert [row["accelerator"] for row in rows] == ["gpu", "gpu", "cpu", "cpu", "cpu", "npu", "npu"]
    assert [row["file"] for row in rows if row["format"] == "saved_model"] == [f"net_{_SIZE}_saved_model"]
    assert all(("latency_ms" in row) == (row["accelerator"] == "cpu") for row in rows if row["format"] == "fp32")
    said = report.text(result)
    assert (
        "Files for gpu and npu were compared with Keras on this machine's CPU: not checked on a GPU or an NPU" in said
    )


@pytest.mark.parametrize("word", ["", "_gpu", "_npu"])
def test_each_file_answers_as_keras(word, exported):
    folder, _, model = exported
    images = tiny.images(4, _SIZE, _SIZE, 3, seed=1)
    content = (folder / f"net_{_SIZE}_fp32{word}.tflite").read_bytes()
    np.testing.assert_allclose(runtime.predict(content, images), model(images), rtol=0, atol=1e-5)
    assert runtime.operations(content)[1] == 1  # partition


def test_an_accelerator_has_fewer_ops_and_no_tiles(exported):
    ops = {}
    for word in ("", "_gpu", "_npu"):
        ops[word] = runtime.operations((exported[0] / f"net_{_SIZE}_fp32{word}.tflite").read_bytes())[0]
    assert ["TANH" in ops[word] for word in ("", "_gpu", "_npu")] == [True, False, False]
    assert ops["_gpu"]["DEPTHWISE_CONV_2D"] == 2  # one in each block
    assert ops["_npu"]["DEPTHWISE_CONV_2D"] == 4 + 1 < ops[""]["DEPTHWISE_CONV_2D"]  # each group; the normalization
    assert ops["_gpu"]["CONV_2D"] < ops["_npu"]["CONV_2D"] < ops[""]["CONV_2D"]
    assert sum(ops["_gpu"].values()) < sum(ops["_npu"].values()) < sum(ops[""].values())


def test_formats_and_accelerators_decide_the_arithmetic():
    assert [arithmetic_of(name) for name in ("fp32", "fp16", "int8_full")] == ["float32", "float16", "int8"]
    assert [arithmetic_of("int8", each) for each in ("cpu", "gpu", "npu")] == ["int8", "gpu", "npu"]
    with pytest.raises(ValueError, match="accelerator: expected some of"):
        ExportOptions(accelerator=("tpu",)).check()


def test_the_normalization_for_an_npu_is_one_convolution(exported):
    names = {word: f"net_{_SIZE}_int8_full{word}.tflite" for word in ("", "_npu")}
    ops = {word: runtime.operations((exported[0] / name).read_bytes())[0] for word, name in names.items()}
    assert "SUB" in ops[""] and "SUB" not in ops["_npu"]
    assert ops["_npu"]["MUL"] == ops["_npu"]["LOGISTIC"]  # those of swish and of the gates


@pytest.mark.parametrize("format_name", ["fp32", pytest.param("int8", marks=pytest.mark.soak)])
def test_hard_silu_is_one_op_on_every_target(format_name, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "FRACTIONS", (1.0,))
    monkeypatch.setattr(calibrate, "_NEAR", 1.0)
    blocks = ["r1_k3.5_a1_p1.1_s22_e2_i8_o8_se0.5_sw"]
    params = {"stem_size": 8, "feature_size": 8, "activation": "hard_silu"}
    model = build_model(None, params, blocks_args=blocks, classes=3, input_shape=(_SIZE, _SIZE, 3), name="hard")
    tiny.randomise(model)
    images = tiny.images(4, _SIZE, _SIZE, 3)
    options = ExportOptions(
        formats=(format_name,),
        accelerator=("cpu", "gpu", "npu"),
        latency_runs=0,
        half_precision_images=0,
        allow_accuracy_drop=True,
    )
    result = export_model(model, tmp_path, images, calibration_images=images, options=options)
    for row in result["files"]:
        groups = 1 if row["accelerator"] == "gpu" else 2
        assert row["ops"]["HARD_SWISH"] == 2 * groups + 1  # expansion, depthwise convolution; squeeze-and-excitation
        assert not {"RELU6", "RELU"} & set(row["ops"]) and row["ops"]["LOGISTIC"] == groups  # of the gate


def test_a_detector_for_an_accelerator_does_not_suppress(detector, tmp_path):
    with pytest.raises(ValueError, match="postprocess: a detector for gpu and npu has boxes or none; received 'nms'"):
        images, options = np.zeros((1, 64, 64, 3)), ExportOptions(accelerator=("cpu", "gpu", "npu"), postprocess="nms")
        export_model(detector, tmp_path, images, objects="a split", options=options)


@pytest.mark.parametrize("options", [{"large_kernels": "keep"}, {"formats": ("int8",), "int8_float_parts": 2}])
def test_options_of_a_cpus_files_need_the_accelerator_cpu(options):
    ExportOptions(accelerator=("cpu", "gpu"), **options).check()
    with pytest.raises(ValueError, match=r"is for files of the accelerator cpu; received \['gpu', 'npu'\]"):
        ExportOptions(accelerator=("gpu", "npu"), **options).check()


@pytest.mark.soak
def test_a_detectors_boxes_are_suppressed_by_the_guides_code_as_by_detect(detector, pictures, tmp_path):
    result, [predicted, *_] = exported_detector.export(detector, tmp_path, pictures, accelerator=("gpu",))
    [row] = result["files"]
    assert row["for"] == "a phone's GPU"
    assert row["file"] == "small_ssdlite_64_fp32_boxes_gpu.tflite" and row["written"] and not row["failures"]
    assert result["postprocess"] == "boxes" and row["flex_ops"] == 0 and row["typical_difference"] <= 1e-5
    assert not {"TFLite_Detection_PostProcess", "CUSTOM"} & set(row["ops"])
    expected = {name: value.numpy() for name, value in mixnet_tf.detect(detector, pictures, 0.2).items()}
    guide, scope = (ROOT / "docs" / "DEPLOYMENT.md").read_text(), {}
    exec(re.search(r"```python\n(import numpy as np\s+def iou.*?)```", guide, re.DOTALL)[1], scope)
    found = outputs_of((tmp_path / row["file"]).read_bytes(), pictures)
    assert (found["location"] < 0).any() and found["location"].shape[1:] == (len(anchors_of(detector)), 4)
    for number, (location, scores) in enumerate(zip(found["location"], found["scores"], strict=True)):
        count = expected["count"][number]
        ours = scope["suppressed"](location, scores)
        assert len(ours) == count > 3
        np.testing.assert_allclose([score for score, _, _ in ours], expected["scores"][number][:count], atol=1e-5)
        np.testing.assert_array_equal([label for _, label, _ in ours], expected["classes"][number][:count])
        np.testing.assert_allclose([box for _, _, box in ours], expected["boxes"][number][:count], atol=1e-4)
    certain = np.array(predicted["scores"]) > 0.2
    np.testing.assert_array_equal(certain.sum(1), expected["count"])
