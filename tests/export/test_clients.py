"""Clients that open the exported files: LiteRT, MediaPipe, TensorFlow, and the guide's."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported_digits import SIZE, row
from scripts import ROOT

from mixnet_tf.data import preprocess_for_eval
from mixnet_tf.export import ExportOptions, export_model, runtime
from mixnet_tf.export.serving import write_serving_model
from mixnet_tf.networks import GOOGLES, TIMMS, carry_resizing


@pytest.mark.parametrize(("name", "dtype"), [("fp32", np.float32), ("int8", np.float32), ("int8_full", np.uint8)])
def test_the_signature_names_its_input_and_output(exported, name, dtype):
    loaded = runtime.interpreter((exported[0] / row(exported, name)["file"]).read_bytes())
    signature = loaded.get_signature_runner("serving_default")
    inputs, outputs = signature.get_input_details(), signature.get_output_details()
    assert list(inputs) == ["image"] and list(outputs) == ["probabilities"]
    assert inputs["image"]["dtype"] == dtype and outputs["probabilities"]["dtype"] == dtype
    assert list(inputs["image"]["shape"]) == [1, SIZE, SIZE, 3]


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
sys.modules["tensorflow"] = None  # which MediaPipe needs for its documentation alone
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


def metadata_of(content):
    """What MediaPipe's own reader finds in a file."""
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    [entry] = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
    return schema.ModelMetadataT.InitFromObj(
        schema.ModelMetadata.GetRootAsModelMetadata(bytes(model.buffers[entry.buffer].data), 0)
    )


def test_the_metadata_says_what_the_scores_are_and_no_license_that_nobody_gave(exported, untrained, digits, tmp_path):
    of_probabilities = metadata_of((exported[0] / row(exported, "fp32")["file"]).read_bytes())
    assert of_probabilities.license is None and of_probabilities.description.startswith(b"mixnet-t, ")
    [scores] = of_probabilities.subgraphMetadata[0].outputTensorMetadata
    assert (list(scores.stats.min), list(scores.stats.max)) == ([0.0], [1.0])
    options = ExportOptions(output="logits", license="CC-BY-4.0", latency_runs=0)
    [written] = export_model(untrained, str(tmp_path), digits[False].images[:4], options=options)["files"]
    of_logits = metadata_of((tmp_path / written["file"]).read_bytes())
    [scores] = of_logits.subgraphMetadata[0].outputTensorMetadata
    assert scores.name == b"logits" and scores.stats is None and of_logits.license == b"CC-BY-4.0"


def test_the_saved_model_serves_floats_and_encoded_images(exported, trained, digits):
    loaded = tf.saved_model.load(str(exported[0] / row(exported, "saved_model")["file"]))
    images = np.round(digits[False].images[:3])
    encoded = tf.constant([tf.io.encode_png(image.astype(np.uint8)).numpy() for image in images])
    expected = trained.predict(images, verbose=0)
    by_bytes = loaded.signatures["image_bytes"](image_bytes=encoded)["probabilities"]
    by_floats = loaded.signatures["serving_default"](image=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(by_floats, expected, atol=1e-5)
    np.testing.assert_allclose(by_bytes, expected, atol=1e-5)


def test_the_saved_model_crops_and_resizes_encoded_images_as_its_model_says(untrained, photographs, tmp_path):
    model = keras.models.clone_model(untrained)
    model.set_weights(untrained.get_weights())
    carry_resizing(model, TIMMS)
    write_serving_model(model, str(tmp_path / "served"))
    encoded = tf.stack([tf.io.read_file(path) for path in photographs.values()])
    found = tf.saved_model.load(str(tmp_path / "served")).signatures["image_bytes"](image_bytes=encoded)
    bicubic, bilinear = (
        model(tf.stack([preprocess_for_eval(each, SIZE, resizing) for each in encoded]))
        for resizing in (TIMMS, GOOGLES)
    )
    np.testing.assert_allclose(found["probabilities"], bicubic, rtol=0, atol=1e-5)
    assert np.abs(found["probabilities"] - bilinear).max() > 1e-4


def test_a_file_of_any_batch_takes_any_batch(untrained, tmp_path, digits):
    options = ExportOptions(batch_size=0, output="logits", large_kernels="keep", latency_runs=0)
    result = export_model(untrained, str(tmp_path), digits[False].images[:8], options=options)
    loaded = runtime.interpreter((tmp_path / result["files"][0]["file"]).read_bytes(), batch_size=5)
    assert list(loaded.get_output_details()[0]["shape"]) == [5, 10]
    assert list(loaded.get_signature_list()["serving_default"]["outputs"]) == ["logits"]


def test_the_documented_client_needs_nothing_of_ours(exported):
    client = re.search(r"```py\n(import numpy.*?)```", (ROOT / "docs" / "DEPLOYMENT.md").read_text(), re.DOTALL)[1]
    assert "mixnet_tf" not in client and "Interpreter(" in client
    client = client.replace("mixnet_s_32", f"mixnet_t_{SIZE}").replace("(1, 32, 32, 3)", f"(1, {SIZE}, {SIZE}, 3)")
    done = subprocess.run(
        [sys.executable, "-I", "-c", client], cwd=exported[0], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    names = (exported[0] / "labels.txt").read_text().splitlines()
    assert len(lines) == 5 and {name for _, name in lines} <= set(names)
    assert [float(p) for p, _ in lines] == sorted((float(p) for p, _ in lines), reverse=True)
