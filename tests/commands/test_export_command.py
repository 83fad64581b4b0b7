"""export_tflite.py: its flags, and the images that it verifies with."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from exported_digits import SIZE
from scripts import run

from mixnet_tf.data import MissingSplitError, load_split
from mixnet_tf.errors import InputError
from mixnet_tf.export import ExportOptions, ExportSettings, export_opened, gates, gather
from mixnet_tf.export.images import Images, ImageStream, folder_images
from mixnet_tf.models import build_model
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.runs import TRAINING_IMAGES, RunConfig
from mixnet_tf.saved_models import Opened


def test_the_script_exports_a_keras_file(untrained, data_dir, tmp_path, capfd):
    untrained.save(tmp_path / "model.keras")
    flags = ["--dataset=digits", f"--data_dir={data_dir}", "--num_images=8", "--latency_runs=0"]
    where = (f"--weights={tmp_path / 'model.keras'}", f"--output_dir={tmp_path / 'out'}")
    code, out, err = run(capfd, "export_tflite.py", *where, *flags)
    assert code == 0, err
    assert (tmp_path / "out" / f"mixnet_t_{SIZE}_fp32.tflite").exists() and "top-1" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--formats=fp8"], "Pass --helpshort"),
        (["--weights=missing.keras", "--dataset=digits"], "no file missing.keras"),
    ],
)
def test_bad_flags_are_one_line_and_no_zero(flags, message, capfd):
    code, _, err = run(capfd, "export_tflite.py", "--output_dir=never", *flags)
    assert code != 0 and message in err.strip().splitlines()[-1]
    assert "Traceback" not in err and not pathlib.Path("never").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ExportSettings("never", images="nowhere"), "no folder nowhere"),
        (ExportSettings("never", images=".", dataset="digits"), "in place of a dataset; leave out --dataset"),
        (ExportSettings("never"), "give --dataset=NAME or --images=FOLDER"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(untrained, settings, message):
    with pytest.raises(ValueError, match=message):
        gather(Opened(untrained, "model.keras", None), settings, ExportOptions())


def test_a_folder_without_readable_images_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        folder_images(str(tmp_path), SIZE, True, None)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="broken.jpg cannot be read as an image"):
        folder_images(str(tmp_path), SIZE, True, None).images.in_memory()


def test_some_images_of_a_folder_verify_and_others_calibrate(untrained, tmp_path, photographs):
    for name, path in photographs.items():
        (tmp_path / name).write_bytes(pathlib.Path(path).read_bytes())
    settings = ExportSettings(str(tmp_path / "out"), images=str(tmp_path))
    # Photographs are nothing that the classifier knows; the gate is not what is asked here.
    options = ExportOptions(formats=("int8",), latency_runs=0, allow_accuracy_drop=True)
    [found] = export_opened(Opened(untrained, "model.keras", None), settings, options)["files"]
    assert found["num_images"] == 1 and "top_1_accuracy" not in found and found["written"]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["verified_on"] == written["calibrated_on"] == f"1 of 2 images of {tmp_path}"
    assert written["calibration"]["images"] == 1


def test_without_a_training_split_different_images_calibrate_and_verify(
    untrained, data_dir, tmp_path, monkeypatch, logged
):
    def without_training_images(dataset, folder, train, **more):
        if train:
            raise MissingSplitError("no split train")
        return load_split(dataset, folder, train, **more)

    monkeypatch.setattr("mixnet_tf.export.inputs.load_split", without_training_images)
    settings = ExportSettings(str(tmp_path), "digits", data_dir, num_images=30, calibration_images=20)
    given = gather(Opened(untrained, "model.keras", None), settings, ExportOptions(formats=("int8",)))
    verified, calibrated = given.images, given.calibration_images
    assert len(verified) == 30 and len(calibrated) == 20
    assert not {image.tobytes() for image in verified} & {image.tobytes() for image in calibrated}
    assert "no training images" in logged()
    assert given.notes == {
        "verified_on": "30 of 50 images of digits, split test",
        "calibrated_on": "20 of 50 images of digits, split test",
        "notes": ["class names not compared"],
    }


def test_a_training_split_that_cannot_be_read_is_an_error(untrained, data_dir, tmp_path, monkeypatch):
    def damaged(dataset, folder, train, **more):
        if train:
            raise ValueError("train-00000: record 3 cannot be read")
        return load_split(dataset, folder, train, **more)

    monkeypatch.setattr("mixnet_tf.export.inputs.load_split", damaged)
    settings = ExportSettings(str(tmp_path), "digits", data_dir, num_images=8, calibration_images=8)
    with pytest.raises(ValueError, match="record 3 cannot be read"):
        gather(Opened(untrained, "model.keras", None), settings, ExportOptions(formats=("int8",)))


@pytest.mark.parametrize("dataset", ["folder", "tfrecord", "digits"])
def test_a_split_that_is_not_there_is_told_from_other_errors(dataset, data_dir, tmp_path):
    (tmp_path / "validation" / "a").mkdir(parents=True)
    with pytest.raises(MissingSplitError):
        load_split(dataset, data_dir if dataset == "digits" else tmp_path, True, "dreamt")
    with pytest.raises(ValueError, match="Unknown dataset") as refused:
        load_split("no_such_dataset", tmp_path, True)
    assert not isinstance(refused.value, MissingSplitError)


def test_halves_spread_every_class_and_share_no_image():
    images = ImageStream(1, np.arange(10), iter)  # an image is its place
    verifying, calibrating = Images(images, np.arange(10), None, "10 images").halves(3)
    np.testing.assert_array_equal(list(calibrating.images), [1, 3, 5])
    np.testing.assert_array_equal(verifying.labels, [0, 2, 4, 6, 7, 8, 9])
    with pytest.raises(ValueError, match="different images; received 1 image"):
        Images(images.chosen(np.arange(10) == 0), None, None, "1 image").halves(3)


@pytest.mark.soak
def test_the_script_ends_with_1_where_a_format_fails_and_writes_the_others(
    untrained, data_dir, tmp_path, monkeypatch, capfd
):
    monkeypatch.setitem(gates._MIN_AGREEMENT, "fp16", 1.1)
    untrained.save(tmp_path / "model.keras")
    flags = ["--dataset=digits", f"--data_dir={data_dir}", "--num_images=8", "--latency_runs=0", "--formats=fp16,fp32"]
    where = (f"--weights={tmp_path / 'model.keras'}", f"--output_dir={tmp_path / 'out'}")
    code, out, err = run(capfd, "export_tflite.py", *where, *flags)
    assert code == 1 and "Not written: fp16" in out and not re.search("^error:", err, re.MULTILINE)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"mixnet_t_{SIZE}_fp32.tflite",
        "labels.txt",
        "report.json",
    }
    code, out, _ = run(capfd, "export_tflite.py", *where, *flags, "--formats=fp16", "--allow_accuracy_drop")
    assert code == 0 and "Written anyway: fp16" in out
    assert (tmp_path / "out" / f"mixnet_t_{SIZE}_fp16.tflite").exists()


@pytest.mark.parametrize("crop", [True, False])
def test_the_crop_asked_for_reaches_the_images_and_the_saved_model(
    crop, untrained, tmp_path, photographs, monkeypatch, capfd
):
    (tmp_path / "images").mkdir()
    for name, path in photographs.items():
        (tmp_path / "images" / name).write_bytes(pathlib.Path(path).read_bytes())
    untrained.save(tmp_path / "model.keras")
    seen = {}

    def export_model(model, output_dir, images, labels, **kwargs):
        seen.update(kwargs, images=images)
        raise InputError("seen enough")

    monkeypatch.setattr("mixnet_tf.export.export.export_model", export_model)
    where = (f"--weights={tmp_path}/model.keras", f"--images={tmp_path}/images", "--output_dir=never")
    code, _, err = run(capfd, "export_tflite.py", *where, "--formats=fp32,int8", "--crop" if crop else "--nocrop")
    assert code == 2 and "seen enough" in err
    folder = str(tmp_path / "images")
    expected = [folder_images(folder, SIZE, cropped, None).images.in_memory() for cropped in (crop, not crop)]
    assert seen["options"].resizing.crops is crop
    images = np.concatenate([seen["images"].in_memory(), seen["calibration_images"]])  # one each
    np.testing.assert_array_equal(images, expected[0])
    assert not np.array_equal(images, expected[1])


def test_the_crop_is_a_flag_of_the_script(capfd):
    code, _, err = run(capfd, "export_tflite.py", "--output_dir=never", "--nocrop", "--only_check_args")
    assert code == 0, err


def test_a_verification_on_the_images_of_the_training_says_so(untrained, data_dir, tmp_path):
    run = RunConfig("tiny", 10, "digits", 360, RECIPES["digits"], train_split="test")
    given = gather(
        Opened(untrained, "run", run), ExportSettings(str(tmp_path), data_dir=data_dir, num_images=3), ExportOptions()
    )
    assert TRAINING_IMAGES in given.notes["notes"]


def test_a_run_is_verified_on_its_own_split_and_calibrated_on_what_it_learned(untrained, data_dir, tmp_path):
    run = RunConfig("tiny", 10, "digits", 360, RECIPES["digits"], train_split="train[:80%]", eval_split="train[80%:]")
    opened, settings = Opened(untrained, "run", run), ExportSettings(str(tmp_path), data_dir=data_dir, num_images=3)
    options = ExportOptions(formats=("int8",))
    notes = gather(opened, settings._replace(calibration_images=4), options).notes
    assert notes["verified_on"] == "3 images of digits, split train[80%:]"
    assert notes["calibrated_on"] == "4 images of digits, split train[:80%]" and TRAINING_IMAGES not in notes["notes"]
    notes = gather(opened, settings._replace(split="test"), options).notes
    assert notes["verified_on"] == "3 images of digits, split test"
    with pytest.raises(ValueError, match=r"'train\[70%:\]' of dataset 'digits' has images of split 'train\[:80%\]'"):
        gather(opened, settings._replace(split="train[70%:]"), options)
    notes = gather(opened, settings._replace(split="train[70%:]"), ExportOptions()).notes
    assert TRAINING_IMAGES in notes["notes"]
    with pytest.raises(ValueError, match="--images is in place of a dataset; leave out --split"):
        gather(opened, settings._replace(split="test", images=str(tmp_path)), options)


def test_a_sample_is_taken_from_the_shards_that_are_there(tiny_network, imagenet_shards, tmp_path):
    shutil.copy(f"{imagenet_shards}/validation-00000-of-00001", tmp_path / "validation-00001-of-00002")
    model = build_model("tiny", classes=1000, input_shape=(16, 16, 3))
    settings = ExportSettings(str(tmp_path), dataset="tfrecord", data_dir=str(tmp_path), num_images=3)
    assert gather(Opened(model, "a file", None), settings, ExportOptions()).images.shape == (3, 16, 16, 3)
