"""Files for a phone's GPU and NPU: their names, their ops, and what the report says of them."""

import numpy as np
import pytest
import tiny

from mixnet_tf import build_model, export_model
from mixnet_tf.export import ExportOptions, report, runtime
from mixnet_tf.export.arithmetics import arithmetic_of

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
        allow_accuracy_drop=True,
    )  # fmt: skip
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
    assert ops["_npu"]["DEPTHWISE_CONV_2D"] == 4 < ops[""]["DEPTHWISE_CONV_2D"]  # one in each group
    assert ops["_gpu"]["CONV_2D"] < ops["_npu"]["CONV_2D"] < ops[""]["CONV_2D"]
    assert sum(ops["_gpu"].values()) < sum(ops["_npu"].values()) < sum(ops[""].values())


def test_formats_and_accelerators_decide_the_arithmetic():
    assert [arithmetic_of(name) for name in ("fp32", "fp16", "int8_full")] == ["float32", "float32", "int8"]
    assert [arithmetic_of("int8", each) for each in ("cpu", "gpu", "npu")] == ["int8", "gpu", "npu"]
    with pytest.raises(ValueError, match="accelerator: expected some of"):
        ExportOptions(accelerator=("tpu",)).check()


@pytest.mark.parametrize(
    "options", [{"formats": ("fp32",)}, {"postprocess": "none", "formats": ("int8",)}], ids=["nms", "int8"]
)
def test_a_detector_for_an_accelerator_is_raw_and_not_int8(options, detector, tmp_path):
    with pytest.raises(ValueError, match="a detector for gpu has the postprocessing none, in fp32 or fp16"):
        export_model(
            detector,
            tmp_path,
            np.zeros((1, 64, 64, 3)),
            options=ExportOptions(accelerator=("gpu",), **options),
        )
