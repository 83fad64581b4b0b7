"""export_tflite.py: its flags, and the images that it verifies with."""

import pathlib

import numpy as np
import pytest
from cli import process, run
from exported_digits import SIZE

from mixnet_tf.export.command import Settings, export_command
from mixnet_tf.export.export import Options
from mixnet_tf.export.images import folder_images
from mixnet_tf.saved import Opened


def test_the_script_exports_a_keras_file(trained, data_dir, tmp_path):
    trained.save(tmp_path / "model.keras")
    flags = ["--dataset=digits", f"--data_dir={data_dir}", "--num_images=8", "--latency_runs=0"]
    where = (f"--weights={tmp_path / 'model.keras'}", f"--output_dir={tmp_path / 'out'}")
    done = process("export_tflite.py", *where, *flags)
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
    done = process("export_tflite.py", "--output_dir=never", *flags)
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


@pytest.mark.parametrize("crop", [True, False])
def test_the_crop_asked_for_reaches_the_images_and_the_saved_model(crop, trained, tmp_path, photographs, monkeypatch):
    for name, path in photographs.items():
        (tmp_path / name).write_bytes(pathlib.Path(path).read_bytes())
    seen = {}

    def export_model(model, output_dir, images, labels, **kwargs):
        seen.update(kwargs, images=images)

    monkeypatch.setattr("mixnet_tf.export.command.export_model", export_model)
    monkeypatch.setattr("mixnet_tf.export.command.text", lambda *_: "")
    settings = Settings("never", images=str(tmp_path), crop=crop)
    export_command(Opened(trained, "model.keras", None), settings, Options(formats=("fp32", "int8")))
    expected = [folder_images(str(tmp_path), SIZE, cropped, None).images for cropped in (crop, not crop)]
    assert seen["options"].crop is crop
    for images in (seen["images"], seen["calibration_images"]):
        np.testing.assert_array_equal(images, expected[0])
        assert not np.array_equal(images, expected[1])


def test_the_crop_is_a_flag_of_the_script(capfd):
    code, _, err = run(capfd, "export_tflite.py", "--output_dir=never", "--nocrop", "--only_check_args")
    assert code == 0, err
