"""The export of a detector: its graph, both of its forms, their gates, and MediaPipe as a client."""

import functools
import json
import os
import subprocess
import sys

import exported_detector
import numpy as np
import pytest
import tensorflow as tf
import tiny
from exported_detector import NAMES, SIZE, export, small
from scripts import ROOT, run

import mixnet_tf
from mixnet_tf import training
from mixnet_tf.commands import model_flags
from mixnet_tf.data import load_objects, object_eval_batches
from mixnet_tf.detection import anchors_of, encode, iou, scores_of, suppress
from mixnet_tf.evaluation import build_detection_evaluator
from mixnet_tf.export import Detector, ExportOptions, export_model, gates, gather, runtime, text
from mixnet_tf.export.convert import to_tflite
from mixnet_tf.export.gates import judge_precision
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.postprocess import decoding_of
from mixnet_tf.export.rewrite import AsWritten, InferenceFunction
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.recipe import DetectionRecipe
from mixnet_tf.saved_models import load_keras_file

sys.path.append(str(ROOT / "benchmarks"))
from accelerators import software_gpu

SOAK = pytest.mark.soak
THRESHOLDS = (0.5, 0.4)  # of score and IoU, of the file that suppresses


@pytest.fixture(scope="module")
def both(detector, pictures, tmp_path_factory):
    """The folder of both forms in fp32, and by form (report, what is predicted)."""
    folder = tmp_path_factory.mktemp("detector")
    thresholds = dict(zip(("score_threshold", "iou_threshold"), THRESHOLDS, strict=True))
    return folder, {
        "nms": export(detector, folder, pictures, (0.5, 0.4), 0.4, postprocess="nms", **thresholds),
        # Images of bytes are taken as floats are.
        "none": export(detector, folder, pictures.astype("uint8"), postprocess="none"),
    }


@pytest.mark.parametrize(
    "network", [None, *(pytest.param(name, marks=SOAK) for name in ("the small one", "mixnet-s", "mobilenet-v1"))]
)
def test_a_rewritten_detector_is_keras_in_one_partition(network, both, detector, pictures):
    """The small one's file is the exported one, but in the soak."""
    is_small = network in (None, "the small one")
    model = detector if is_small else mixnet_tf.SSDLite(network, 3, (SIZE, SIZE, 3))
    function = InferenceFunction(model)
    if network is None:
        content = (both[0] / both[1]["none"][0]["files"][0]["file"]).read_bytes()
        answers = tf.function(function, autograph=False)(pictures[:1])
    else:
        content = to_tflite(function, SIZE)
        answers = runtime.signature(content)(pictures[:1])
    expected = model(pictures[:1])
    for name in ("boxes", "logits"):
        largest = float(tf.reduce_max(tf.abs(expected[name])))
        np.testing.assert_allclose(answers[name], expected[name], rtol=0, atol=1e-5 * max(1.0, largest))
    ops, partitions, flex = runtime.operations(content)
    assert (partitions, flex) == (1, 0) and runtime.is_fully_delegated(content) in (True, None)
    assert ops["CONCATENATION"] >= 4  # two of six tensors, each by two
    if network is not None:
        assert to_tflite(AsWritten(model), SIZE)


def test_without_postprocessing_the_file_gives_keras_codes_and_scores_for_images_of_bytes_too(both, detector, pictures):
    folder, exported = both
    [row] = exported["none"][0]["files"]
    assert row["file"] == f"small_ssdlite_{SIZE}_fp32_raw.tflite" and row["written"] and not row["failures"]
    assert row["typical_difference"] <= 1e-5 and row["flex_ops"] == 0 and row["delegate_partitions"] == 1
    run_file = runtime.signature((folder / row["file"]).read_bytes())
    expected = detector(pictures)
    assert set(Detector(detector, ExportOptions()).answers(pictures)) == {"boxes", "scores"}
    for number in range(2):
        found = run_file(pictures[number : number + 1])
        np.testing.assert_allclose(found["boxes"][0], expected["boxes"][number], atol=1e-4)
        np.testing.assert_allclose(found["scores"][0], scores_of(expected["logits"])[number], atol=1e-5)


def test_with_it_the_file_gives_the_detections_of_keras(both, detector, pictures):
    _, exported = both
    [row] = exported["nms"][0]["files"]
    assert row["file"] == f"small_ssdlite_{SIZE}_fp32.tflite" and "max_difference" not in row
    assert row["ops"]["TFLite_Detection_PostProcess"] == 1 and row["flex_ops"] == 0
    expected = {name: value.numpy() for name, value in mixnet_tf.detect(detector, pictures, *THRESHOLDS).items()}
    others = mixnet_tf.detect(detector, pictures, THRESHOLDS[0])["count"].numpy()
    assert (expected["count"] < others).all()  # the threshold of IoU counts
    for found in exported["nms"][1]:  # Keras as the gate takes it, and the file
        np.testing.assert_array_equal(found["count"], expected["count"])
        for number, count in enumerate(expected["count"]):
            assert count > 5
            first = slice(count)
            np.testing.assert_allclose(found["scores"][number][first], expected["scores"][number][first], atol=1e-4)
            np.testing.assert_array_equal(found["classes"][number][first], expected["classes"][number][first])
            np.testing.assert_allclose(found["boxes"][number][first], expected["boxes"][number][first], atol=1e-3)


def test_the_gate_takes_keras_with_the_thresholds_of_the_file(both):
    report, _ = both[1]["nms"]
    [row] = report["files"]
    assert (row["AP_keras"], row["AP"], row["AP_lost"], row["AP_keras_coco"]) == (0.4, 0.4, 0, 0.5)
    assert (report["score_threshold"], report["iou_threshold"]) == THRESHOLDS and row["written"]
    assert "boxes: score from 0.5, IoU up to 0.4\n" in text(report)
    assert "Warning: fp32: the thresholds of score and IoU cost 10.00 points of AP, more than 0.1" in text(report)
    report, _ = both[1]["none"]
    assert report["score_threshold"] is None and "AP_keras_coco" not in report["files"][0]
    assert gates.judge_thresholds(-1.0, -1.0) == ({"AP_keras_coco": None}, [])
    assert gates.judge_thresholds(0.5, 0.4995)[1] == gates.judge_thresholds(0.5, 0.6)[1] == []


_CLIENT = """
import sys
sys.modules["tensorflow"] = None  # which MediaPipe needs for its documentation alone
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
for path in sys.argv[2:]:
    options = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=path), score_threshold=0.1)
    with vision.ObjectDetector.create_from_options(options) as detector:
        for number, image in enumerate(np.load(sys.argv[1])):
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            for found in detector.detect(picture).detections:
                box, category = found.bounding_box, found.categories[0]
                print("found", path, number, category.category_name, category.score,
                      box.origin_x, box.origin_y, box.width, box.height)
"""


def _found_by_mediapipe(folder, images, paths):
    """The words of a line for each detection above 0.1: path, image, name, score, x, y, width and height in pixels."""
    np.save(folder / "images.npy", images.astype(np.uint8))
    command = [sys.executable, "-c", _CLIENT, str(folder / "images.npy"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("found ")]


def test_both_forms_have_what_mediapipe_asks_for(both, detector, pictures, tmp_path):
    pytest.importorskip("mediapipe")
    folder, exported = both
    paths = {form: str(folder / exported[form][0]["files"][0]["file"]) for form in exported}
    lines = _found_by_mediapipe(tmp_path, pictures[:3], paths.values())  # of the model's size: nothing is resized
    for form, path in paths.items():
        thresholds = THRESHOLDS if form == "nms" else ()
        ours = {name: value.numpy() for name, value in mixnet_tf.detect(detector, pictures[:3], *thresholds).items()}
        for number in range(3):
            theirs = [line[2:] for line in lines if line[0] == path and int(line[1]) == number]
            expected = [
                (NAMES[label], score, box)
                for label, score, box in zip(*(ours[k][number] for k in ("classes", "scores", "boxes")), strict=True)
            ]
            # Of a box that begins outside the image MediaPipe moves the corner and keeps the size.
            theirs = [found for found in theirs if int(found[2]) > 0 and int(found[3]) > 0]
            assert len(theirs) > 3, form
            # Without the op MediaPipe suppresses over all classes at once, so it finds fewer.
            first = theirs[:20] if form == "nms" else theirs[:5]
            assert [found for found in first if not any(_is_same(found, each) for each in expected)] == [], form


def _is_same(found, expected):
    """Whether a detection of MediaPipe's, in whole pixels, is one of ours, which is clipped."""
    name, score, box = expected
    x, y, width, height = map(int, found[2:])
    corners = np.clip([y, x, y + height, x + width], 0, SIZE)
    return found[0] == name and abs(float(found[1]) - score) < 1e-3 and np.abs(corners - box * SIZE).max() < 2.01


@pytest.fixture(scope="module")
def digit_detector(small_scenes, tmp_path_factory):
    """A detector trained on a few scenes of digits."""
    folder = tmp_path_factory.mktemp("digit_detector")
    (folder / "small.json").write_text(json.dumps(tiny.DETECTOR_NETWORK))
    recipe = RECIPES["digit_scenes"]._replace(image_size=SIZE, train_steps=600, base_learning_rate=0.05)
    settings = training.RunOptions(str(folder / "run"), small_scenes, eval_every=0)
    detection = DetectionRecipe()
    code = training.train(str(folder / "small.json"), "digit_scenes", recipe, settings, detection=detection)
    assert code == 0
    return load_keras_file(str(folder / "run" / "final.keras"))


@SOAK
@pytest.mark.parametrize(("format_name", "dispatches"), [("fp32", 114), ("int8", 119)])
def test_a_trained_file_is_on_a_gpu_as_precise_as_on_the_cpu(
    format_name, dispatches, digit_detector, small_scenes, gpu_folder, tmp_path
):
    """On the scenes that it was trained with: they are too few to find the objects of others."""
    task = Detector(digit_detector, ExportOptions(postprocess="none"))
    scenes = load_objects("digit_scenes", small_scenes, True)
    calibration = next(iter(object_eval_batches(scenes, SIZE, 40)))[0].numpy()
    graphs = Graphs(task, calibration, str(tmp_path))
    content = graphs.convert("fp32") if format_name == "fp32" else graphs.int8("none", calibration)

    def on_gpu(images):
        ran = software_gpu.run(content, np.asarray(images), gpu_folder)
        assert ran.accelerated and ran.dispatches == dispatches
        assert gates.judge_values(format_name, gates.compare_values(task.answers(images), ran.outputs)) == []
        return suppress(ran.outputs["boxes"], ran.outputs["scores"], task.decoding.anchors)

    precisions = [
        build_detection_evaluator(digit_detector, scenes, predict=predict)()["AP"]
        for predict in (task.predict_function(content), on_gpu)
    ]
    assert precisions[1] == pytest.approx(precisions[0], abs=0.005) and precisions[0] > 0.5


@SOAK
def test_mediapipe_finds_what_keras_does_with_a_trained_file(digit_detector, small_scenes, tmp_path, monkeypatch):
    """It suppresses over all classes at once, so it finds fewer; each is one of ours."""
    pytest.importorskip("mediapipe")
    model = digit_detector
    split = load_objects("digit_scenes", small_scenes, True)
    images = np.round(next(iter(object_eval_batches(split, SIZE, 40)))[0].numpy())
    monkeypatch.setattr(exported_detector, "NAMES", tuple(str(number) for number in range(10)))
    report, _ = export(model, tmp_path, images[:8])
    enlarged = images.repeat(20, 1).repeat(20, 2)  # which resizing undoes exactly; its boxes are in whole pixels
    found = _found_by_mediapipe(tmp_path, enlarged, [tmp_path / report["files"][0]["file"]])
    ours = {name: value.numpy() for name, value in mixnet_tf.detect(model, images, 0.1).items()}
    overlaps = []
    for _, number, name, score, x, y, width, height in found:
        if "0" in (x, y):  # of a box that begins outside the image MediaPipe moves the corner and keeps the size
            continue
        count, place = ours["count"][int(number)], int(number)
        same = (ours["classes"][place] == int(name)) & (np.abs(ours["scores"][place] - float(score)) < 1e-3)
        box = np.float32([int(y), int(x), int(y) + int(height), int(x) + int(width)]) / (20 * SIZE)
        candidates = ours["boxes"][place][:count][same[:count]]
        assert len(candidates), (number, name, score)
        overlaps.append(float(tf.reduce_max(iou(np.clip(box, 0, 1)[np.newaxis], candidates))))
    assert len(overlaps) > 40 and min(overlaps) >= 0.95


def test_the_metadata_names_each_output_in_the_files_order(both, detector):
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    detectors = pytest.importorskip("mediapipe.tasks.metadata.object_detector_metadata_schema_py_generated")
    from tensorflow.lite.tools import flatbuffer_utils

    folder, exported = both
    shapes = {"location": [1, 100, 4], "category": [1, 100], "score": [1, 100], "number of detections": [1]}
    for form in exported:
        content = (folder / exported[form][0]["files"][0]["file"]).read_bytes()
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        [entry] = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
        data = bytes(model.buffers[entry.buffer].data)
        graph = schema.ModelMetadataT.InitFromObj(
            schema.ModelMetadata.GetRootAsModelMetadata(data, 0)
        ).subgraphMetadata[0]
        described = [each.name.decode() for each in graph.outputTensorMetadata]
        tensors = [detail["shape"].tolist() for detail in runtime.interpreter(content).get_output_details()]
        if form == "nms":
            assert [shapes[name] for name in described] == tensors
            [labelled] = [each for each in graph.outputTensorMetadata if each.associatedFiles]
            assert labelled.name == b"category"
            assert b"The probability of each box, from 0.5." in data
            continue
        assert sorted(described) == ["location", "score"]
        [custom] = graph.customMetadata
        assert custom.name == b"DETECTOR_METADATA"
        raw = detectors.ObjectDetectorOptions.GetRootAsObjectDetectorOptions(bytes(custom.data), 0)
        told = detectors.ObjectDetectorOptionsT.InitFromObj(raw)
        anchors = told.ssdAnchorsOptions.fixedAnchorsSchema.anchors
        centers = np.array([[a.yCenter, a.xCenter] for a in anchors])
        halves = np.array([[a.height, a.width] for a in anchors]) / 2
        np.testing.assert_allclose(np.hstack([centers - halves, centers + halves]), anchors_of(detector), atol=1e-6)
        options = told.tensorsDecodingOptions
        assert (options.numClasses, options.numBoxes, options.yScale, options.hScale) == (3, len(anchors), 10, 5)
    assert (folder / "labels.txt").read_text() == "cat\ndog\ncow\n"


@pytest.mark.parametrize("measured", [(-1.0, -1.0), (0.5, -1.0), (float("nan"), float("nan")), (0.5, float("nan"))])
def test_an_average_precision_that_was_not_measured_passes_no_gate(measured):
    before, after = measured
    row, [failure] = judge_precision(before, after, "fp32")
    assert failure.startswith("AP was not measured: the images that the file is verified on show no objects")
    assert row["AP_lost"] is None


def test_an_average_precision_passes_its_gate_up_to_the_limit():
    assert judge_precision(0.5, 0.4995, "fp32")[1] == [] and judge_precision(0.0, 0.0, "fp32")[1] == []
    assert judge_precision(0.5, 0.49, "fp32")[1] == ["AP falls by 1.00 points, more than 0.1"]


def test_what_was_not_measured_is_a_dash_in_the_table(both):
    report = json.loads(json.dumps(both[1]["nms"][0]))
    report["files"][0] |= judge_precision(-1.0, -1.0, "fp32")[0]
    assert "-100.00%" not in text(report)


@SOAK
def test_a_file_that_loses_ap_is_not_written_and_the_older_one_is_set_aside(detector, pictures, tmp_path):
    result, _ = export(detector, tmp_path, pictures)
    [row] = result["files"]
    assert row["written"] and (tmp_path / row["file"]).exists()
    result, _ = export(detector, tmp_path, pictures, measured=(0.5, 0.49))
    [row] = result["files"]
    assert not row["written"] and row["failures"] == ["AP falls by 1.00 points, more than 0.1"]
    assert not (tmp_path / row["file"]).exists() and (tmp_path / row["older_file"]).exists()
    assert json.loads((tmp_path / "report.json").read_text())["files"][0]["AP_lost"] == pytest.approx(0.01)
    result, _ = export(detector, tmp_path, pictures, measured=(0.5, 0.49), allow_accuracy_drop=True)
    assert result["files"][0]["written"] and (tmp_path / result["files"][0]["file"]).exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"formats": ("saved_model",)},
            r"some of \['fp32', .*, 'int8_full'\] for an object detector; received \['saved",
        ),
        ({"formats": ("int8",)}, "int8 formats need calibration images"),
        ({"postprocess": "fast"}, "postprocess: expected one of"),
        ({"large_kernels": "many"}, "large_kernels: expected one of"),
        ({"latency_runs": -1}, "latency_runs: expected a whole number"),
        ({"score_threshold": 1.0}, "score_threshold: expected a number from 0 to below 1; received 1.0"),
        ({"iou_threshold": 0}, "iou_threshold: expected a number above 0, up to 1; received 0"),
        ({"score_threshold": 0.1, "postprocess": "boxes"}, "score_threshold is for a detector's file that suppresses"),
        ({"iou_threshold": 0.5, "accelerator": ("gpu", "npu")}, r"nms and the accelerator cpu. Received None and \['g"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, detector, pictures, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(detector, tmp_path / "out", pictures, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("detector", {}, "objects: expected a split of `data.load_objects` for an object detector; received None"),
        ("detector", {"objects": "a split", "labels": [0]}, "labels: expected None for an object detector"),
        ("detector", {"objects": "a split", "options": ExportOptions(output="logits")}, "leave out output"),
        ("untrained", {"objects": "a split"}, "objects: expected None for an image classifier"),
        ("untrained", {"options": ExportOptions(postprocess="none")}, "is an image classifier; leave out postprocess"),
        ("untrained", {"options": ExportOptions(score_threshold=0.2)}, "image classifier; leave out score_threshold"),
    ],
)
def test_what_is_for_the_other_kind_of_model_is_refused(kind, arguments, message, request, tmp_path):
    model = request.getfixturevalue(kind)
    with pytest.raises(ValueError, match=message):
        export_model(model, tmp_path / "out", tiny.images(1, *model.input_shape[1:]), **arguments)
    assert not (tmp_path / "out").exists()


def test_the_files_boxes_are_those_of_the_codes(detector, tmp_path):
    """The converter does put TensorFlow Lite's op in the stand-in's place, with our scales and anchors."""
    from mixnet_tf.export.postprocess import Suppressed

    anchors = anchors_of(detector)
    box = np.float32([0.2, 0.3, 0.6, 0.9])
    codes = np.zeros((1, len(anchors), 4), np.float32)
    logits = np.full((1, len(anchors), 4), -20.0, np.float32)
    codes[0, 7], logits[0, 7, 2] = encode(box, anchors[7]), 3.0

    class One(tf.Module):
        def __call__(self, images):
            zero = 0 * tf.reduce_sum(images)
            return {"boxes": tf.constant(codes) + zero, "logits": tf.constant(logits) + zero}

    from mixnet_tf.export.convert import convert, write_saved_model

    write_saved_model(Suppressed(One(), decoding_of(detector, 0.1, 0.6)), str(tmp_path / "one"), SIZE, 1, "")
    content = convert(str(tmp_path / "one"), lambda converter: setattr(converter, "allow_custom_ops", True))
    found = Detector(detector, ExportOptions()).predict_function(content)(np.zeros((1, SIZE, SIZE, 3), np.float32))
    np.testing.assert_allclose(found["boxes"][0, 0], box, atol=1e-6)
    assert found["classes"][0, 0] == 1 and found["scores"][0, 0] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)


@SOAK
def test_the_benchmark_of_suppression_chooses_on_the_validation_scenes(small_scenes, tmp_path, capfd):
    small(10).save(tmp_path / "a.keras")
    (tmp_path / "small.json").write_text(json.dumps(tiny.DETECTOR_NETWORK))
    flags = (f"--weights={tmp_path}/a.keras", f"--network={tmp_path}/small.json", f"--data_dir={small_scenes}")
    shorter = ("--classes=20", "--image_size=128", "--scores=0.05,0.9", "--ious=0.5", "--runs=2")
    code, out, err = run(capfd, "benchmarks/bench_suppression.py", *flags, *shorter, f"--json={tmp_path}/a.json")
    assert code == 0, err
    measured = json.loads((tmp_path / "a.json").read_text())
    every, *others, last = measured["rows"]
    assert [row["score"] for row in (every, *others)] == [1e-8, 0.05, 0.9]
    fit = [row["score"] for row in (every, *others) if every["validation"] - row["validation"] < 0.001]
    assert measured["chosen"] == max(fit) == last["score"] and last["iou"] == 0.5
    assert f"chosen on the validation scenes: {max(fit):g}" in out


@SOAK
@pytest.mark.parametrize("plain", [False, True])
def test_the_command_exports_a_detector(plain, small_scenes, tmp_path, monkeypatch, capfd):
    """Its latency is measured beside a plain conversion, for which the rewritten file stands in where not `plain`."""
    given = []

    def gather_once(*arguments):
        given.extend([] if given else [gather(*arguments)])
        return given[0]

    if not plain:
        monkeypatch.setattr(Graphs, "convert", functools.cache(Graphs.convert))
        monkeypatch.setattr(Graphs, "as_written", lambda graphs: graphs.convert("fp32"))
    monkeypatch.setattr("mixnet_tf.export.export.gather", gather_once)
    monkeypatch.setattr(model_flags, "open_model_from_flags", functools.cache(model_flags.open_model_from_flags))
    monkeypatch.chdir(tmp_path)
    os.symlink(small_scenes, "data")
    model = small(10)
    model.save("detector.keras")
    code, out, err = run(capfd, "export_tflite.py", "--weights=detector.keras", "--output_dir=out", "--latency_runs=2")
    assert code == 0, err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["split"], report["num_images"], report["postprocess"]) == ("validation", 5, "nms")
    assert report["files"][0]["latency_ms"] > 0 and "AP before" in out and "Wrote out/small_ssdlite_64_fp32" in out
    assert load_objects("digit_scenes", small_scenes, False).label_names == tuple(
        (tmp_path / "out" / "labels.txt").read_text().split()
    )
    code, _, err = run(capfd, "export_tflite.py", "--weights=detector.keras", "--output_dir=out", "--output=logits")
    assert code == 2 and "is an object detector; leave out --output" in err
    code, _, err = run(
        capfd, "export_tflite.py", "--weights=detector.keras", "--output_dir=out", "--formats=saved_model"
    )
    assert code == 2 and "for an object detector" in err
