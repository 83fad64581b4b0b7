"""A detector's run: its step over replicas and under XLA, interruptions, weights, evaluation, the two commands."""

import json
import os
import re
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_run
from scripts import printed, run
from shared_trainers import share, shared
from tiny import DETECTOR_NETWORK, images, randomise, values

import mixnet_tf
from mixnet_tf.detection import anchors_of, class_predictors, is_detector
from mixnet_tf.evaluation import CHOSEN_ON
from mixnet_tf.named_recipes import RECIPES, recipe_for
from mixnet_tf.recipe import DETECTION, DetectionRecipe, Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.saved_models import load_keras_file, open_model
from mixnet_tf.training import RunOptions, read_metrics, task_of, train
from mixnet_tf.training import run as training_run
from mixnet_tf.training.objectives import detection

pytest.importorskip("faster_coco_eval")
pytestmark = pytest.mark.usefixtures("shared_trainers")
_RECIPE = RECIPES["digit_scenes"]._replace(
    image_size=64, train_epochs=2.0, base_learning_rate=0.16, rmsprop_epsilon=1e-3, warmup_epochs=1.0
)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network file."""
    path = tmp_path_factory.mktemp("network") / "small.json"
    blocks = [block.replace("r2_", "r1_") for block in DETECTOR_NETWORK["blocks"]]
    path.write_text(json.dumps({**DETECTOR_NETWORK, "blocks": blocks}))
    return str(path)


def _train(network, model_dir, data_dir, recipe=_RECIPE, weights=None):
    options = RunOptions(str(model_dir), data_dir, steps_per_loop=3, checkpoint_steps=4, deterministic=True)
    return train(network, "digit_scenes", recipe, options, weights, detection=DetectionRecipe())


@pytest.fixture(scope="module")
def flags(network):
    """Flags of a run of `_RECIPE`."""
    return ("--task=detection", f"--model_name={network}", "--image_size=64", "--train_batch_size=16")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, flags, small_scenes):
    """(folder, output) of a run of the command that nothing interrupted."""
    folder = tmp_path_factory.mktemp("detector")
    os.symlink(small_scenes, folder / "data")
    recipe = ("--train_epochs=2", "--base_learning_rate=0.16", "--rmsprop_epsilon=1e-3", "--warmup_epochs=1")
    options = ("--steps_per_loop=3", "--checkpoint_steps=4", "--deterministic")
    with pytest.MonkeyPatch.context() as patch, printed() as caught:
        share(patch)
        patch.chdir(folder)
        code, out, err = run(caught, "train.py", *flags, *recipe, *options)
    assert code == 0, err
    return folder, out


@pytest.fixture(scope="module")
def detector_run(trained):
    """The folder that it trained in."""
    return trained[0] / "runs" / "detection"


def _trainer(network, strategy=None, jit_compile=False, size=64, **fields):
    recipe = Recipe(train_batch_size=4, base_learning_rate=0.3, warmup_epochs=0.0, learning_rate_schedule="constant")
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = mixnet_tf.SSDLite(network, 3, (size, size, 3))
        randomise(model)
        objective = detection(DetectionRecipe(), anchors_of(model))
        return shared(model, recipe._replace(**fields), 4.0, strategy, None, jit_compile, objective)


def _batch(size=64, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (4, 5, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (4, 5, 2))], -1).astype(np.float32)
    labels = rng.integers(-1, 3, (4, 5))
    labels[0] = 2, 1, 0, 1, 0  # more objects on one replica than on the other
    labels[3] = -1
    return images(4, size, size, 3, seed=seed), {"boxes": boxes, "labels": labels}


def _assert_equal_after_steps(one, two, size):
    for seed in range(2):
        losses = [trainer.train_step(*_batch(size, seed)) for trainer in (one, two)]
        for name in ("loss", "classification_loss", "box_loss"):
            # The second step has the first one's rounding, times a rate of 0.3.
            np.testing.assert_allclose(float(losses[0][name]), float(losses[1][name]), rtol=5e-4)
    for weight, other in zip(one.model.weights, two.model.weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-3, atol=1e-4)


@pytest.mark.soak
def test_two_replicas_are_one_device_where_batch_normalization_is_frozen(network, two_replicas):
    _assert_equal_after_steps(_trainer(network, freeze="bn"), _trainer(network, two_replicas, freeze="bn"), 64)


@pytest.mark.soak
def test_two_replicas_are_one_device_with_synchronized_normalization_of_maps_above_1x1(network, two_replicas):
    # One step of SGD, whose changes are the gradients; RMSProp divides small ones by themselves, rounding included.
    fields = {"sync_batch_norm": True, "optimizer": "sgd"}
    one, two = (_trainer(network, strategy, size=576, **fields) for strategy in (None, two_replicas))
    before = values(one.model)
    losses = [float(trainer.train_step(*_batch(576))["loss"]) for trainer in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    changes = [
        np.concatenate([(weight - start).ravel() for start, weight in zip(before, values(trainer.model), strict=True)])
        for trainer in (one, two)
    ]
    # Sums over 330,000 positions of 2 + 2 images round otherwise than over 4.
    assert np.linalg.norm(changes[0] - changes[1]) < 0.02 * np.linalg.norm(changes[0])


@pytest.mark.usefixtures("eagerly")
def test_the_loss_is_over_the_matches_of_the_whole_batch(network):
    trainer = _trainer(network, weight_decay=0.0)
    pictures, targets = _batch()
    outputs = trainer.model(pictures, training=True)
    from mixnet_tf.detection import anchor_targets, detection_losses

    slots, codes = anchor_targets(targets["boxes"], targets["labels"].astype(np.int32), anchors_of(trainer.model))
    classes, boxes, matches = detection_losses(outputs["logits"], outputs["boxes"], slots, codes)
    measured = trainer.train_step(pictures, targets)
    assert float(matches) > 4
    np.testing.assert_allclose(float(measured["classification_loss"]), float(classes / matches), rtol=1e-4)
    np.testing.assert_allclose(float(measured["loss"]), float((classes + boxes) / matches), rtol=1e-4)


@pytest.mark.soak
def test_the_whole_step_compiles_under_xla(network):
    compiled, plain = _trainer(network, jit_compile=True, freeze="bn"), _trainer(network, freeze="bn")
    losses = [float(trainer.train_step(*_batch())["loss"]) for trainer in (compiled, plain)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_detectors_run_leaves_its_task_its_model_and_average_precision(detector_run, network):
    config = RunConfig.read(detector_run)
    assert (config.task, config.detection, config.dataset) == (DETECTION, DetectionRecipe(), "digit_scenes")
    assert config.label_names == tuple("0123456789") and config.eval_split == "validation"
    opened = open_model(model_dir=detector_run)
    assert opened.config == config and opened.source.endswith("best.keras")
    model = opened.model
    assert is_detector(model) and model.get_layer("logits").output.shape[-1] == 11
    rows = read_metrics(detector_run)
    trained = [row for row in rows if row["kind"] == "train"]
    assert {"loss", "classification_loss", "box_loss", "learning_rate"} <= set(trained[0])
    assert trained[-1]["loss"] < trained[0]["loss"]
    evaluations = [row for row in rows if row["kind"] == "eval"]
    assert [row["step"] for row in evaluations] == [5, 10] and config.eval_every == 1.0  # each epoch of 80 scenes
    for evaluation in evaluations:
        assert evaluation["num_images"] == 5 and {"AP", "AP50", "AR100"} <= set(evaluation)
    best = json.loads((detector_run / "best.json").read_text())
    assert best["AP"] == max(row["AP"] for row in evaluations) and best["notes"] == [CHOSEN_ON]


@pytest.mark.soak
def test_an_interrupted_run_ends_bit_equal(tmp_path, network, small_scenes, detector_run, monkeypatch, logged):
    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 8, signal.SIGTERM)
        assert _train(network, tmp_path, small_scenes) == 75
    assert "objects left out: 0 crowds, 0 difficult, 0 empty" in logged()
    assert _train(network, tmp_path, small_scenes) == 0
    assert "objects left out" not in logged()  # they were checked when the run began
    for name in ("final.keras", "best.keras"):
        np.testing.assert_equal(*(values(load_keras_file(str(folder / name))) for folder in (tmp_path, detector_run)))


@pytest.fixture
def one_step(monkeypatch):
    """A function that takes a step with what `_train` would begin with, and gives the model trained."""

    def stepped(*arguments):
        begun = []
        with monkeypatch.context() as patch:
            patch.setattr(training_run, "fit", lambda trainer, *_: begun.append(trainer) or signal.SIGTERM)
            assert _train(*arguments) == 75
        begun[0].train_step(*_batch())
        return begun[0].model

    return stepped


def _ended(network, model_dir, *arguments):
    assert _train(network, model_dir, *arguments) == 0
    return load_keras_file(str(model_dir / "final.keras"))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["step", "run"])
def test_a_detector_starts_from_a_classifiers_network(is_whole, tmp_path, network, small_scenes, logged, one_step):
    classifier = mixnet_tf.build_model(network, classes=7, input_shape=(32, 32, 3))
    randomise(classifier)
    classifier.save(tmp_path / "classifier.keras")
    recipe = _RECIPE._replace(train_epochs=0.2, freeze="backbone", moving_average_decay=0.0)
    trained_by = _ended if is_whole else one_step
    model = trained_by(network, tmp_path / "run", small_scenes, recipe, tmp_path / "classifier.keras")
    said = logged()
    assert "Loaded the network of" in said and "objects left out: 0 crowds, 0 difficult, 0 empty" in said
    for name in ("stem_conv", "block_3_mixconv", "head_conv"):
        for value, other in zip(
            model.get_layer(name).get_weights(), classifier.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(value, other)


@pytest.mark.soak
def test_a_detector_starts_from_another_one_with_new_predictors_where_its_classes_differ(
    tmp_path, network, small_scenes, detector_run, logged
):
    recipe = _RECIPE._replace(train_steps=1, base_learning_rate=0.0, moving_average_decay=0.0)
    mixnet_tf.SSDLite(network, 3, (64, 64, 3)).save(tmp_path / "three.keras")
    for path, said in (
        (detector_run / "final.keras", "the predictors of classes included"),
        (tmp_path / "three.keras", "but the predictors of classes: the new ones, of 10 classes"),
    ):
        assert _train(network, tmp_path / path.stem, small_scenes, recipe, path) == 0
        assert said in logged()
        there, here = (load_keras_file(str(each)) for each in (path, tmp_path / path.stem / "final.keras"))
        for name in ("block_3_mixconv", "extra_2_expand_conv", "boxes_1_conv"):
            kernels = [model.get_layer(name).get_weights()[0] for model in (there, here)]
            np.testing.assert_array_equal(*kernels)
    assert [layer.bias.shape[0] for layer in class_predictors(here)[:2]] == [3 * 11, 6 * 11]


@pytest.mark.parametrize(
    "field, value",
    [
        ("shift", 0.1),
        ("rotation", 5.0),
        ("randaugment_layers", 2),
        ("color_jitter", 0.4),
        ("erasing", 0.25),
        ("mixup", 0.2),
        ("cutmix", 1.0),
        ("recalibrate_batch_norm", True),
        ("class_weights", "balanced"),
    ],
)
def test_what_is_for_classification_alone_is_refused(field, value, tmp_path, network, small_scenes):
    with pytest.raises(ValueError, match=f"{field}: {value!r} is for classification"):
        _train(network, tmp_path / "run", small_scenes, _RECIPE._replace(**{field: value}))
    assert not (tmp_path / "run").exists()


def test_detectors_have_recipes_of_their_own():
    assert recipe_for("digit_scenes", DETECTION).name == "digit_scenes"
    assert recipe_for("coco/2017", DETECTION).name == "coco" and recipe_for("coco/2017").name == "imagenet"
    coco = RECIPES["coco"]
    assert (coco.image_size, coco.train_batch_size, coco.total_steps(117_266)) == (320, 512, 400_000)
    assert coco.base_learning_rate * coco.train_batch_size / 256 == 0.4
    assert int(coco.warmup_epochs * coco.steps_per_epoch(117_266)) == pytest.approx(2000, abs=1)
    with pytest.raises(ValueError, match="go with --dataset=tfrecord, which has no boxes"):
        task_of(DETECTION).load_split("digit_scenes", "data", True, num_images=3)


@pytest.mark.soak
@pytest.mark.usefixtures("eagerly")
def test_the_commands_train_and_evaluate_a_detector(tmp_path, monkeypatch, flags, trained, capfd):
    folder, out = trained
    assert "Training " in out and "in runs/detection." in out and "AP50" in out

    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)  # the best model of it is written
    monkeypatch.chdir(tmp_path)
    flags_of_eval = ("--model_dir=runs/detection", "--output_json=measured.json", "--draw=scenes.png")
    code, out, err = run(capfd, "eval.py", *flags_of_eval)
    assert code == 0, err
    drawn = tf.io.decode_png(tf.io.read_file("scenes.png"), channels=3).numpy()
    assert drawn.shape[1] == 2 * drawn.shape[0] >= 1600  # two rows of four for five scenes
    assert (np.abs(drawn.astype(int) - (0x16, 0xA3, 0x4A)).sum(-1) < 30).sum() > 500  # the true boxes
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert measured["num_images"] == 5 and 0 <= measured["AP"] <= 1 and "AP50" in out
    code, _, err = run(capfd, "eval.py", "--weights=runs/detection/final.keras", "--split=test")
    assert code == 0, err

    tf.io.write_file("street.png", tf.io.encode_png(np.zeros((40, 80, 3), "uint8")))
    of_image = ("--image=street.png", "--draw=boxes.png", "--score_threshold=0", "--iou_threshold=1")
    code, out, err = run(capfd, "eval.py", "--model_dir=runs/detection", *of_image)
    assert code == 0, err
    assert len(re.findall(r"^ +[0-9.]+%  ", out, re.MULTILINE)) == 100  # with 0.3 there would be none
    assert (tmp_path / "boxes.png").read_bytes().startswith(b"\x89PNG") and "Wrote boxes.png." in out

    code, out, err = run(capfd, "eval.py", "--model_dir=runs/detection", "--watch", "--watch_seconds=0.1")
    assert code == 0, err
    assert (tmp_path / "runs/detection/best.keras").exists() and json.loads(
        (tmp_path / "runs/detection/best.json").read_text()
    )["AP"] == pytest.approx(measured["AP"])

    code, _, err = run(capfd, "train.py", *flags[1:], "--dataset=digits", "--model_dir=runs/detection")
    assert code == 2 and "is of another configuration" in err and "task: 'detection' there, 'classification'" in err
    code, _, err = run(capfd, "train.py", "--classification_loss=focal")
    assert code == 2 and "goes with --task=detection" in err
    code, _, err = run(capfd, "eval.py", "--model_dir=runs/detection", "--iou_threshold=0.5")
    assert code == 2 and "--iou_threshold: for the boxes that --image lists and --draw draws" in err
    code, _, err = run(capfd, "eval.py", "--model_dir=runs/detection", "--image=a.png,b.png", "--draw=c.png")
    assert code == 2 and "--draw takes the boxes of one --image" in err
    code, _, err = run(capfd, "eval.py", "--model_dir=runs/detection", "--image=.", "--draw=c.png")
    assert code == 2 and "image: . is a folder; give the path of an image file" in err
    code, _, err = run(capfd, "eval.py", "--model_dir=runs/detection", "--image=street.png", "--output_csv=c.csv")
    assert code == 2 and "--output_csv has the classes of images; runs/detection/best.keras is a detector" in err
    (tmp_path / "pictures").mkdir()
    shutil.copy("street.png", "pictures")
    (tmp_path / "pictures" / "text.png").write_text("text")
    code, out, err = run(capfd, "eval.py", "--model_dir=runs/detection", "--image=pictures")
    assert code == 1 and "1 of 2 images cannot be read." in out and "text.png is not a readable" in out, err


def test_a_found_object_is_listed_and_drawn(tmp_path, detector_run, small_scenes):
    from mixnet_tf.evaluation import detect_in_file, draw_boxes

    model = load_keras_file(str(detector_run / "final.keras"))
    path = str(tmp_path / "scene.png")
    tf.io.write_file(path, tf.io.encode_png(np.full((50, 90, 3), 80, "uint8")))
    found = detect_in_file(model, path, score_threshold=0.0)
    assert len(found) == 100
    scores = [score for _, score, _ in found]
    assert scores == sorted(scores, reverse=True) and all(0 <= label < 10 for _, _, label in found)
    draw_boxes(path, [((0.2, 0.1, 0.8, 0.5), "5 90%")], tmp_path / "drawn.png")
    drawn = tf.io.decode_png(tf.io.read_file(str(tmp_path / "drawn.png")), channels=3).numpy()
    assert drawn.shape[1] / drawn.shape[0] == pytest.approx(90 / 50, rel=0.01)
    height, width = drawn.shape[:2]
    edge = drawn[height // 2, int(0.1 * width) - 3 : int(0.1 * width) + 4]
    assert (np.abs(edge.astype(int) - (0xB9, 0x1C, 0x1C)).sum(-1) < 60).any()
    assert isinstance(model, keras.Model)
