"""What the page in the browser is given: a run's exported files, the names of its classes, how images are prepared."""

import json
import runpy

import pytest
from scripts import ROOT, run

from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.runs import RunConfig, save_model

_SCRIPT = "examples/web/serve.py"
_NETWORK = {"blocks": ["r1_k3_a1_p1_s22_e1_i8_o8"], "params": {"feature_size": 16}}


@pytest.fixture
def exported_run(tmp_path):
    """A run's folder with an exported file."""
    recipe = RECIPES["digits"]._replace(image_size=16)
    config = RunConfig("own", 3, "digits", 100, recipe, ("a", "b", "c"), network=_NETWORK)
    config.write(tmp_path)
    save_model(config.build_model(), tmp_path / "final.keras")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "own_16_fp32.tflite").write_bytes(b"exported")
    return tmp_path


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script's functions, around a page of its own."""
    found = runpy.run_path(str(ROOT / _SCRIPT))
    monkeypatch.setitem(found["prepare"].__globals__, "_MODEL", tmp_path / "model")
    return found


def test_the_page_is_given_the_files_the_names_and_the_crop(script, exported_run):
    (exported_run / "model").mkdir()
    (exported_run / "model" / "older.tflite").write_bytes(b"of another run")
    script["prepare"](exported_run, exported_run / "export")
    there = exported_run / "model"
    assert {path.name for path in there.iterdir()} == {"own_16_fp32.tflite", "labels.txt", "model.json"}
    assert (there / "labels.txt").read_text() == "a\nb\nc\n"
    resizing = {"crop_padding": None, "crop_fraction": None, "interpolation": "bilinear"}
    expected = {**resizing, "exif": False, "files": ["own_16_fp32.tflite"]}
    assert json.loads((there / "model.json").read_text()) == expected
    RunConfig.read(exported_run)._replace(exif=True).write(exported_run)
    script["prepare"](exported_run, exported_run / "export")
    assert json.loads((there / "model.json").read_text()) == {**expected, "exif": True}


def test_a_run_without_an_export_is_refused(script, exported_run):
    (exported_run / "export" / "own_16_fp32.tflite").unlink()
    with pytest.raises(FileNotFoundError, match="holds no .tflite file; make one with export_tflite.py"):
        script["prepare"](exported_run, exported_run / "export")


def test_without_litert_js_the_command_to_install_it_is_named(capfd, monkeypatch):
    if (ROOT / "examples" / "web" / "node_modules").exists():
        monkeypatch.setattr("pathlib.Path.is_dir", lambda self: False)
    code, _, err = run(capfd, _SCRIPT, "--model_dir=no/run")
    assert code == 2 and "LiteRT.js is not installed: npm ci --prefix examples/web" in err
