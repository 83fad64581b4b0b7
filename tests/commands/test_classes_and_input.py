"""eval.py and export_tflite.py compare classes by name, and feed a model what it takes."""

import json

import colors
import keras
import numpy as np
import pytest
from scripts import run
from tiny import GOLDEN, SMALL_NETWORK

from mixnet_tf.class_names import NOT_COMPARED
from mixnet_tf.models import build_model
from mixnet_tf.networks import NOT_CHECKED, Resizing, carry_resizing

_NAMES = dict(zip(colors.COLORS, ("dog", "cow", "cat"), strict=True))  # by color, in no order


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier of dog, cow and cat as a .keras file, and the same without names."""
    folder = tmp_path_factory.mktemp("colors")
    colors.build(tuple(_NAMES.values())).save(folder / "named.keras")
    colors.build(None).save(folder / "unnamed.keras")
    return folder


def _evaluate(capfd, weights, data_dir, *flags):
    arguments = (f"--weights={weights}", "--dataset=folder", f"--data_dir={data_dir}", "--nocrop", *flags)
    return run(capfd, "eval.py", *arguments)


@pytest.mark.parametrize(
    "names",
    [
        {"blue": "cat", "green": "cow", "red": "dog"},  # the folder's classes are in the order of their names
        {"red": "dog", "blue": "cat"},
    ],
)
def test_classes_are_found_by_their_names(names, saved, tmp_path, capfd):
    data_dir = colors.write_split(tmp_path, names)
    output = tmp_path / "out.json"
    code, out, err = _evaluate(capfd, saved / "named.keras", data_dir, f"--output_json={output}")
    assert code == 0, err
    measured = json.loads(output.read_text())
    assert measured["top_1_accuracy"] == 1 and "top_1_accuracy 1.0" in out
    note = "the dataset has 2 of the model's 3 classes"
    assert (note in measured["notes"]) is (f"Note: {note}." in out) is (len(names) == 2)
    assert NOT_COMPARED not in out


@pytest.mark.parametrize("flags", [(), ("--report_dir=REPORT",)])
def test_a_class_that_the_model_does_not_know_is_one_line_that_lists_both_sides(flags, saved, tmp_path, capfd):
    data_dir = colors.write_split(tmp_path, {"red": "dog", "blue": "cat", "green": "owl"})
    flags = [flag.replace("REPORT", str(tmp_path / "report")) for flag in flags]
    code, _, err = _evaluate(capfd, saved / "named.keras", data_dir, *flags)
    assert code == 2 and "classes of dataset 'folder': 'owl'" in err and "lacks 1: 'cow'" in err
    assert len(err.strip().splitlines()) == 1


def test_where_there_are_no_names_the_numbers_agree_and_the_screen_says_so(saved, tmp_path, capfd):
    data_dir = colors.write_split(tmp_path / "three", {"red": "a", "green": "b", "blue": "c"})
    code, out, err = _evaluate(capfd, saved / "unnamed.keras", data_dir)
    assert code == 0 and f"Note: {NOT_COMPARED}." in out and "top_1_accuracy 1.0" in out, err
    data_dir = colors.write_split(tmp_path / "two", {"red": "a", "green": "b"})
    code, _, err = _evaluate(capfd, saved / "unnamed.keras", data_dir)
    assert code == 2 and "The model has 3 classes, but dataset 'folder' has 2" in err


@pytest.mark.slow
def test_a_report_shows_the_models_names_and_what_was_not_checked(saved, tmp_path, capfd):
    data_dir = colors.write_split(tmp_path / "data", {"blue": "cat", "red": "dog"})
    code, _, err = _evaluate(capfd, saved / "named.keras", data_dir, f"--report_dir={tmp_path}")
    assert code == 0, err
    page = (tmp_path / "report.html").read_text()
    assert "dog" in page and "2 of the model&#39;s 3 classes" in page and NOT_CHECKED in page


def test_a_run_of_an_older_version_knows_its_classes_by_config_json(data_dir, tmp_path, capfd):
    renamed = tmp_path / "renamed"
    for name in "zyxwvutsrq":
        colors.write_images(renamed / "test" / name, "red", 1)
    model_dir = GOLDEN / "version-0.1.0" / "finished"
    code, _, err = run(capfd, "eval.py", f"--model_dir={model_dir}", "--dataset=folder", f"--data_dir={renamed}")
    assert code == 2 and "does not know 10 of the 10 classes of dataset 'folder': 'q', 'r'" in err
    code, out, err = run(capfd, "eval.py", f"--model_dir={model_dir}", f"--data_dir={data_dir}")
    assert code == 0 and NOT_COMPARED not in out and NOT_CHECKED not in out, err


def test_a_newline_in_a_class_folder_is_refused(saved, tmp_path, capfd):
    data_dir = colors.write_split(tmp_path, {**_NAMES, "blue": "c\nat"})
    code, _, err = _evaluate(capfd, saved / "named.keras", data_dir)
    assert code == 2 and "class 0 is named 'c\\nat'; expected a name of one line" in err


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("names", [{"blue": "cat", "red": "dog"}, {"red": "dog", "blue": "owl"}])
def test_the_export_is_verified_by_the_names_of_classes(names, saved, tmp_path, capfd):
    data_dir = colors.write_split(tmp_path / "data", names)
    arguments = (f"--weights={saved}/named.keras", "--dataset=folder", f"--data_dir={data_dir}", "--nocrop")
    output = tmp_path / "out"
    code, out, err = run(capfd, "export_tflite.py", *arguments, f"--output_dir={output}", "--latency_runs=0")
    if "owl" in names.values():
        assert code == 2 and "does not know 1 of the 2 classes" in err
        return
    assert code == 0, err
    report = json.loads((output / "report.json").read_text())
    assert report["files"][0]["top_1_accuracy"] == report["files"][0]["top_1_accuracy_keras"] == 1
    assert report["notes"] == ["the dataset has 2 of the model's 3 classes", NOT_CHECKED]
    assert "Note: scaling of the input not checked." in out
    assert (output / "labels.txt").read_text() == "dog\ncow\ncat\n"
    assert b"normalizes its images itself" not in next(output.glob("*.tflite")).read_bytes()


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A network with its normalization and one with the same weights without, as .keras files."""
    folder = tmp_path_factory.mktemp("twins")
    network = {"blocks_args": SMALL_NETWORK["blocks"], "override_params": SMALL_NETWORK["params"], "classes": 10}
    kwargs = {**network, "input_shape": (16, 16, 3), "class_names": list("0123456789")}
    pixels = build_model(**kwargs)
    normalized = build_model(**kwargs, include_preprocessing=False)
    rng = np.random.default_rng(0)
    pixels.get_layer("head_dense").kernel.assign(rng.normal(0, 3, (16, 10)))
    normalized.set_weights(pixels.get_weights())
    pixels.save(folder / "pixels.keras")
    normalized.save(folder / "normalized.keras")
    return folder


def _answers(capfd, weights, data_dir, tmp_path, *flags):
    output = tmp_path / "out.json"
    arguments = (f"--weights={weights}", f"--data_dir={data_dir}", f"--output_json={output}", *flags)
    code, out, err = run(capfd, "eval.py", *arguments)
    assert code == 0, err
    return json.loads(output.read_text()), out


def test_a_model_without_its_normalization_is_given_normalized_images(twins, data_dir, tmp_path, capfd):
    expected, out = _answers(capfd, twins / "pixels.keras", data_dir, tmp_path)
    assert "notes" not in expected and "Preprocessing" not in out
    measured, out = _answers(capfd, twins / "normalized.keras", data_dir, tmp_path)
    assert measured == expected and "`Preprocessing` was put in front of the model." in out
    measured, out = _answers(capfd, twins / "normalized.keras", data_dir, tmp_path, "--input=pixels")
    assert measured != expected and measured["notes"] == [NOT_CHECKED]


@pytest.mark.soak
def test_images_are_resized_as_the_model_says_or_the_flags(twins, data_dir, tmp_path, capfd):
    silent, out = _answers(capfd, twins / "pixels.keras", data_dir, tmp_path)
    assert "pixels.keras does not say how its images are cropped and resized: the whole image, bilinear." in out
    flags = ("--crop_fraction=0.5", "--interpolation=bicubic")
    asked, out = _answers(capfd, twins / "pixels.keras", data_dir, tmp_path, *flags)
    assert asked != silent and "resized: the center square of 50.0% of the shorter side, bicubic." in out
    model = keras.models.load_model(twins / "pixels.keras")
    carry_resizing(model, Resizing(None, 0.5, "bicubic"))
    model.save(tmp_path / "carrying.keras")
    carried, out = _answers(capfd, tmp_path / "carrying.keras", data_dir, tmp_path)
    assert carried == asked and "does not say" not in out
    whole, _ = _answers(capfd, tmp_path / "carrying.keras", data_dir, tmp_path, "--nocrop", "--interpolation=bilinear")
    assert whole == silent


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--crop_padding=3", "--crop_fraction=0.5"), "Give either crop_padding or crop_fraction; received 3 and 0.5."),
        (("--crop_padding=3", "--nocrop"), "Without the center crop there is no crop_padding; leave one of them out."),
        (("--watch", "--interpolation=bicubic", "--model_dir=run"), "leave out --interpolation"),
    ],
)
def test_flags_that_contradict_each_other_are_one_line(flags, message, capfd):
    where = () if "--watch" in flags else ("--weights=never.keras",)
    code, _, err = run(capfd, "eval.py", *where, *flags)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1


def test_a_detector_sees_whole_images(detector, tmp_path, capfd):
    detector.save(tmp_path / "detector.keras")
    code, _, err = run(capfd, "eval.py", f"--weights={tmp_path}/detector.keras", "--interpolation=bicubic")
    assert code == 2 and "which sees whole images, bilinear; leave out --interpolation." in err


def test_thresholds_are_for_the_boxes_of_a_detector(twins, capfd):
    flags = (f"--weights={twins}/pixels.keras", "--score_threshold=0.5", "--iou_threshold=0.5")
    code, _, err = run(capfd, "eval.py", *flags)
    assert code == 2 and "--score_threshold and --iou_threshold: for the boxes that --image lists and --draw" in err
    code, _, err = run(capfd, "eval.py", *flags, "--image=a.png")
    assert code == 2 and "is an image classifier; leave out --score_threshold, --iou_threshold, for detectors." in err
    code, _, err = run(capfd, "export_tflite.py", *flags, "--output_dir=never")
    assert code == 2 and "is an image classifier; leave out --score_threshold, --iou_threshold." in err


@pytest.mark.soak
@pytest.mark.slow
def test_the_export_of_a_model_without_its_normalization_has_it(twins, data_dir, tmp_path, capfd):
    reports = {}
    for name in ("pixels", "normalized"):
        output = tmp_path / name
        flags = ("--dataset=digits", f"--data_dir={data_dir}", "--latency_runs=0", "--num_images=40")
        code, _, err = run(
            capfd, "export_tflite.py", f"--weights={twins}/{name}.keras", f"--output_dir={output}", *flags
        )
        assert code == 0, err
        reports[name] = json.loads((output / "report.json").read_text())
        assert b"normalizes its images itself" in next(output.glob("*.tflite")).read_bytes()
    pixels, normalized = (reports[name]["files"][0]["top_1_accuracy"] for name in ("pixels", "normalized"))
    assert pixels == normalized and not reports["normalized"]["notes"]
