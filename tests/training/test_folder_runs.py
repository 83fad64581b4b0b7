"""A run on a folder of classes: what it holds out stays held out, in the run and in what reads it."""

import contextlib
import json
import shutil
import signal

import pytest
import scripts
import tensorflow as tf
import tiny_run
from photographs import jpeg, turned
from short_run import RECIPE

from mixnet_tf.evaluation import classify
from mixnet_tf.export import ExportOptions, ExportSettings
from mixnet_tf.export.inputs import gather
from mixnet_tf.runs import SOME_TRAINING_IMAGES, RunConfig
from mixnet_tf.saved_models import open_model
from mixnet_tf.training import RunOptions, run, train

pytestmark = pytest.mark.usefixtures("tiny_network", "shared_trainers")

_RECIPE = RECIPE._replace(train_batch_size=8, train_steps=2)
_OPTIONS = {"steps_per_loop": 1, "checkpoint_steps": 1}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder of 30 gray images in each of two classes."""
    root = tmp_path_factory.mktemp("shapes")
    for label, name in enumerate(("circle", "square")):
        (root / name).mkdir()
        for number in range(30):
            pixels = tf.fill((16, 16, 3), tf.cast(100 * label + number, tf.uint8))
            (root / name / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return root


def _evaluated(capfd, model_dir, data_dir, tmp_path, *flags):
    output = tmp_path / "measured.json"
    arguments = (f"--model_dir={model_dir}", f"--data_dir={data_dir}", f"--output_json={output}", *flags)
    code, _, err = scripts.run(capfd, "eval.py", *arguments)
    assert code == 0, err
    return json.loads(output.read_text())


@pytest.mark.soak
def test_a_run_on_a_flat_folder_holds_out_the_same_images_to_its_end_and_after(shapes, tmp_path, monkeypatch, capfd):
    splits, load_splits = [], run.load_splits
    monkeypatch.setattr(run, "load_splits", lambda *asked: splits.append(load_splits(*asked)) or splits[-1])
    options = RunOptions(str(tmp_path / "run"), str(shapes), validation_fraction=0.3, **_OPTIONS)
    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 1, signal.SIGTERM)
        assert train("tiny", "folder", _RECIPE, options) == 75
    config = RunConfig.read(options.model_dir)
    assert (config.train_split, config.eval_split) == ("train", "validation")
    assert (config.validation_fraction, config.hash_version, config.exif, config.list) == (0.3, 1, True, None)

    moved = shutil.copytree(shapes, tmp_path / "moved")
    with pytest.raises(ValueError, match=r"validation_fraction: 0.3 there, 0.1 now"):
        train("tiny", "folder", _RECIPE, options._replace(data_dir=str(moved), validation_fraction=0.1))
    with pytest.raises(ValueError, match="train_split: 'all' has the images to evaluate on, too"):
        train("tiny", "folder", _RECIPE, options._replace(train_split="all"))
    assert train("tiny", "folder", _RECIPE, options._replace(data_dir=str(moved), validation_fraction=None)) == 0
    assert RunConfig.read(options.model_dir) == config
    (train_split, held), (train_again, held_again) = splits[0], splits[-1]
    assert train_split.class_counts == train_again.class_counts and held.class_counts == held_again.class_counts
    assert train_split.num_examples + held.num_examples == 60
    first, then = ([path.decode().split("/")[-2:] for path in split.ids.numpy()] for split in (held, held_again))
    assert first == then

    measured = _evaluated(capfd, options.model_dir, shapes, tmp_path)
    assert measured["num_images"] == held.num_examples and SOME_TRAINING_IMAGES not in measured.get("notes", ())
    measured = _evaluated(capfd, options.model_dir, shapes, tmp_path, "--split=all")
    assert measured["num_images"] == 60 and SOME_TRAINING_IMAGES in measured["notes"]
    measured = _evaluated(capfd, options.model_dir, shapes, tmp_path, "--validation_fraction=0.1")
    assert measured["num_images"] < held.num_examples and SOME_TRAINING_IMAGES not in measured.get("notes", ())

    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in shapes.rglob("*.png")]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    as_list = ("--dataset=list", f"--list={tmp_path / 'labels.csv'}", "--split=all")
    assert _evaluated(capfd, options.model_dir, shapes, tmp_path, *as_list)["num_images"] == 60

    settings = ExportSettings(str(tmp_path / "export"), data_dir=str(shapes))
    inputs = gather(open_model(model_dir=options.model_dir), settings, ExportOptions(formats=("int8",)))
    assert len(inputs.images) == held.num_examples and len(inputs.calibration_images) == train_split.num_examples


@pytest.mark.soak
def test_a_run_turns_photographs_and_what_reads_the_run_follows(tmp_path, monkeypatch, capfd, logged):
    pytest.importorskip("PIL")
    for number in range(30):
        path = tmp_path / "photographs" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(turned(jpeg(40, 17), 6))
    steps = []

    @contextlib.contextmanager
    def counting_turned(split):
        assert split.name == "train"
        yield lambda: steps.append(fitting_step())

    def fitting_step():
        return int(trainers[-1].optimizer.iterations)

    trainers, trainer_for = [], run.trainer_for
    monkeypatch.setattr(run, "trainer_for", lambda *arguments: trainers.append(trainer_for(*arguments)) or trainers[-1])
    monkeypatch.setattr(run, "counting_turned", counting_turned)
    options = RunOptions(str(tmp_path / "run"), str(tmp_path / "photographs"), steps_per_loop=2, eval_every=0)
    assert train("tiny", "folder", _RECIPE._replace(train_steps=6), options) == 0
    config = RunConfig.read(options.model_dir)
    assert config.exif and 16 < config.num_train_images <= 30
    assert steps == [4]  # the first report after all images
    assert f"turned as their EXIF orientation says: {config.num_train_images} of all" in logged()

    opened = open_model(model_dir=options.model_dir)
    (tmp_path / "stored.jpg").write_bytes(jpeg(40, 17))
    path, stored = str(tmp_path / "photographs" / "a" / "0.jpg"), str(tmp_path / "stored.jpg")
    upright = str(tmp_path / "upright.png")
    tf.io.write_file(upright, tf.io.encode_png(tf.image.rot90(tf.io.decode_jpeg(jpeg(40, 17)), 3)))
    as_is, as_turned = classify(opened.model, stored, crop=False), classify(opened.model, upright, crop=False)
    assert as_is != as_turned
    assert classify(opened.model, path, crop=False, rules=opened.rules) == as_turned
    assert opened.rules.exif and opened._replace(config=None).rules.exif and opened.reading("folder").exif
    assert not opened._replace(exif=False).rules.exif and opened._replace(exif=False).reading("list").exif is False

    config._replace(exif=False).write(options.model_dir)  # as an older version wrote it
    opened = open_model(model_dir=options.model_dir)
    assert classify(opened.model, path, crop=False, rules=opened.rules) == as_is
    arguments = (f"--model_dir={options.model_dir}", f"--data_dir={options.data_dir}")
    for flag, expected in (("--noexif", True), ("--exif", False)):
        code, out, err = scripts.run(capfd, "eval.py", *arguments, flag)
        assert code == 0, err
        assert ("not turned, although their EXIF orientation says so" in out) == expected
    assert train("tiny", "folder", _RECIPE._replace(train_steps=6), options) == 0  # it keeps what is recorded
    with pytest.raises(ValueError, match="exif: False there, True now"):
        train("tiny", "folder", _RECIPE._replace(train_steps=6), options._replace(exif=True))
