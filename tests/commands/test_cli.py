"""The scripts as a person uses them."""

import json
import shutil

import numpy as np
import pytest
from scripts import process, run

from mixnet_tf.class_names import NOT_COMPARED
from mixnet_tf.evaluation import CHOSEN_ON
from mixnet_tf.saved_models import load_keras_file

pytestmark = pytest.mark.usefixtures("tiny_network", "shared_trainers")
_QUICK = ("--train_batch_size=4", "--train_epochs=1", "--image_size=16", "--warmup_epochs=0", "--eval_batch_size=8")


@pytest.fixture(scope="module")
def data(data_dir, imagenet_shards, image_folder):
    """The folder of each kind of dataset, and how many images it holds to evaluate on."""
    return {"digits": (data_dir, 360), "tfrecord": (imagenet_shards, 5), "folder": (image_folder, 2)}


def _started(capfd, as_process):
    """Returns a function that runs a script: as a process of its own, or in this process."""

    def start(script, *arguments):
        if not as_process:
            return run(capfd, script, *arguments)
        command = ("tests/tiny_run.py", script) if script == "train.py" else (script,)
        done = process(*command, *arguments, TF_CPP_MIN_LOG_LEVEL="2")
        assert done.stderr == ""  # our lines alone
        return done.returncode, done.stdout, done.stderr

    return start


@pytest.mark.soak
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("dataset, as_process", [("tfrecord", False), ("folder", True)])
def test_train_eval_and_export_run_on_photographs(dataset, as_process, data, tmp_path_factory, capfd):
    folder, num_eval = data[dataset]
    model_dir, start = tmp_path_factory.mktemp(dataset), _started(capfd, as_process)
    where = (f"--model_dir={model_dir}", f"--data_dir={folder}")
    code, out, err = start("train.py", "--model_name=tiny", f"--dataset={dataset}", *where, *_QUICK)
    assert code == 0, err
    assert f"Evaluation: {num_eval}/{num_eval} images" in out and "images/s" in out and "ETA" in out
    lines = out.splitlines()
    assert lines[0] == f"Training tiny on {dataset} in {model_dir}."
    assert f"Wrote {model_dir / 'final.keras'}." in lines and any("finished at step" in line for line in lines)
    assert lines[-2:] == [
        f"Next: python eval.py {' '.join(where)} --report_dir={model_dir}/report",
        f"Next: python export_tflite.py {' '.join(where)} --output_dir={model_dir}/export",
    ]
    report = model_dir / "eval.json"
    code, out, err = start("eval.py", *where, f"--output_json={report}")
    assert code == 0, err
    assert f"num_images {num_eval}" in out
    measured = json.loads(report.read_text())
    notes = measured.pop("notes", [])  # these shards are not numbered as ImageNet's
    assert notes == [CHOSEN_ON] + ([NOT_COMPARED] if dataset == "tfrecord" else [])
    assert measured["num_images"] == num_eval
    assert set(measured) == {"top_1_accuracy", "top_5_accuracy", "cross_entropy", "num_images"}
    classes = {"folder": 2, "tfrecord": 1000}[dataset]
    assert load_keras_file(str(model_dir / "final.keras")).output_shape == (None, classes)
    export = [*where, f"--output_dir={model_dir}/out", "--latency_runs=0"]
    if dataset == "tfrecord":  # without it, the names of ImageNet's classes would be downloaded
        (model_dir / "labels.txt").write_text("".join(f"class {i}\n" for i in range(1000)))
        export.append(f"--labels={model_dir}/labels.txt")
    code, out, err = run(capfd, "export_tflite.py", *export)
    assert code == 0, err
    assert (model_dir / "out" / "tiny_16_fp32.tflite").stat().st_size > 0
    assert (
        f"Note: {CHOSEN_ON}." in out
        and CHOSEN_ON in json.loads((model_dir / "out" / "report.json").read_text())["notes"]
    )


@pytest.mark.soak
@pytest.mark.usefixtures("eagerly")
def test_the_flags_given_replace_the_fields_and_parameters_of_the_recipe(data, tmp_path, capfd):
    arguments = ("--model_name=tiny", f"--data_dir={data['digits'][0]}", f"--model_dir={tmp_path}", *_QUICK)
    overrides = '{"dropout_rate": 0.3, "activation": "mish"}'
    flags = (
        "--train_steps=1",
        "--eval_batch_size=128",
        "--weight_decay=0.125",
        "--crop",
        f"--model_overrides={overrides}",
    )
    code, _, err = run(capfd, "train.py", *[flag for flag in arguments if "epochs=1" not in flag], *flags)
    assert code == 0, err
    recipe = json.loads((tmp_path / "config.json").read_text())["recipe"]
    assert (recipe["weight_decay"], recipe["crop"], recipe["flip"], recipe["label_smoothing"]) == (
        0.125,
        True,
        False,
        0.1,
    )
    model = load_keras_file(str(tmp_path / "final.keras"))
    assert model.get_layer("head_dropout").rate == 0.3
    assert model.get_layer("stem_bn").momentum == 0.9  # the digits recipe's own
    assert model.get_layer("block_1_se").activation == "mish"


def test_eval_prints_the_classes_of_images_by_name(data, photographs, tmp_path, capfd):
    from mixnet_tf.models import build_model

    build_model("tiny", classes=2, input_shape=(32, 32, 3)).save(tmp_path / "x.keras")
    (tmp_path / "labels.txt").write_text("temple\nflower\n")
    images = ",".join(photographs.values())
    arguments = (f"--weights={tmp_path}/x.keras", f"--image={images}", f"--labels={tmp_path}/labels.txt")
    code, out, err = run(capfd, "eval.py", *arguments)
    assert code == 0, err
    assert out.count("temple") == out.count("%  flower") == 2
    percentages = [float(word.rstrip("%")) for word in out.split() if word.endswith("%")]
    np.testing.assert_allclose(sum(percentages), 200, atol=0.1)


@pytest.mark.parametrize("flag, crop", [("--crop", True), ("--nocrop", False), (None, False)])
def test_watch_evaluates_with_the_crop_asked_for_or_the_runs(flag, crop, data, tmp_path, capfd, monkeypatch):
    from mixnet_tf.named_recipes import RECIPES
    from mixnet_tf.runs import RunConfig

    seen = []

    def build_evaluator(model, split, crop, *_):
        seen.append(crop)
        return dict

    monkeypatch.setattr("mixnet_tf.training.tasks.build_evaluator", build_evaluator)
    RunConfig("tiny", 10, "digits", 1437, RECIPES["digits"]).write(tmp_path)
    arguments = ["--watch", "--watch_timeout=0", "--watch_seconds=0", f"--data_dir={data['digits'][0]}"]
    code, _, err = run(capfd, "eval.py", f"--model_dir={tmp_path}", *arguments, *([flag] if flag else []))
    assert code == 2 and "No new checkpoint" in err
    assert [resizing.crops for resizing in seen] == [crop]


def test_eval_counts_a_split_without_all_its_shards_only_where_that_is_allowed(data, tmp_path, capfd):
    from mixnet_tf.models import build_model

    build_model("tiny", classes=1000, input_shape=(32, 32, 3)).save(tmp_path / "x.keras")
    shutil.copy(f"{data['tfrecord'][0]}/validation-00000-of-00001", tmp_path / "validation-00001-of-00002")
    arguments = (f"--weights={tmp_path}/x.keras", "--dataset=tfrecord", f"--data_dir={tmp_path}")
    code, _, err = run(capfd, "eval.py", *arguments)
    assert code == 2 and "validation-00000-of-00002" in err and "--allow_missing_shards" in err
    code, out, err = run(capfd, "eval.py", *arguments, "--allow_missing_shards")
    assert code == 0 and "num_images 5" in out, err


def test_eval_shows_probabilities_of_a_model_that_takes_any_size_and_ends_in_logits(data, photographs, tmp_path, capfd):
    from mixnet_tf.models import build_model

    build_model("tiny", classes=2, classifier_activation=None).save(tmp_path / "x.keras")
    arguments = (f"--weights={tmp_path}/x.keras", f"--image={photographs['china.jpg']}")
    code, _, err = run(capfd, "eval.py", *arguments)
    assert code == 2 and "takes images of any size; give the one to use as image_size, --image_size=" in err
    code, out, err = run(capfd, "eval.py", *arguments, "--image_size=32")
    assert code == 0, err
    percentages = [float(word.rstrip("%")) for word in out.split() if word.endswith("%")]
    assert len(percentages) == 2 and all(percentage >= 0 for percentage in percentages)
    np.testing.assert_allclose(sum(percentages), 100, atol=0.1)


_BAD = [
    ("train.py", ["--train_batch_size=0"], "train_batch_size"),
    ("train.py", ["--learning_rate_schedule=linear"], "learning_rate_schedule"),
    ("train.py", ["--label_smoothing=1.5"], "label_smoothing"),
    ("train.py", ["--model_name=mixnet-xxl"], "mixnet-xxl"),
    ("train.py", ["--model_name=/no/such.json"], "There is no file /no/such.json"),
    ("train.py", ["--kernels=3.4"], "odd kernel sizes"),
    ("train.py", ["--train_steps=0"], "train_steps"),
    ("train.py", ["--train_steps=10", "--train_epochs=1"], "either --train_epochs or --train_steps"),
    ("train.py", ["--no_such_flag=1"], "no_such_flag"),
    ("train.py", ["stray"], "Unknown arguments ['stray']"),
    ("train.py", ["--dataset=no_such_dataset"], "Unknown dataset 'no_such_dataset'"),
    ("train.py", ["--dataset=folder", "--data_dir=/no/such/folder"], "there is no folder /no/such/folder"),
    ("train.py", ["--dataset=tfrecord", "--data_dir=/no/such/folder"], "no files train-*"),
    ("train.py", ["--optimizer=adam"], "optimizer"),
    ("train.py", ["--freeze=head"], "freeze"),
    ("train.py", ["--freeze=bn"], "give the weights to start from"),
    ("train.py", ["--model_overrides={{"], "is not JSON"),
    ("train.py", ["--model_overrides=[1]"], "expected a JSON object"),
    ("train.py", ['--model_overrides={{"dropout": 0.3}}'], "Unknown override_params ['dropout']"),
    ("train.py", ['--model_overrides={{"dropout_rate": 2}}'], "a number from 0 to below 1"),
    ("train.py", ['--model_overrides={{"activation": "swoosh"}}'], "swoosh"),
    ("train.py", ["--weights={text}.keras"], "not a readable file of Keras 3"),
    ("train.py", ["--weights=/no/such/checkpoint"], "No checkpoint at /no/such/checkpoint"),
    ("train.py", ["--tpu=nowhere", "--strategy=mirrored"], "goes with strategy auto or tpu"),
    ("train.py", ["--strategy=multi_worker"], "TF_CONFIG"),
    ("eval.py", [], "either weights or model_dir"),
    ("eval.py", ["--model_dir=/no/such/run"], "holds no training run"),
    ("eval.py", ["--weights=/no/such.keras"], "there is no file /no/such.keras"),
    ("eval.py", ["--weights={keras}", "--image=/no/such.jpg"], "there is no file /no/such.jpg"),
    ("eval.py", ["--weights={keras}", "--image={tmp}/empty"], "empty and its subfolders hold no JPEG"),
    ("eval.py", ["--weights={keras}", "--output_csv={tmp}/o"], "name them, or their folder, with --image"),
    ("eval.py", ["--weights={keras}", "--image={text}", "--output_csv={tmp}"], "is a folder; name a file"),
    ("eval.py", ["--watch", "--model_dir={tmp}/run", "--exif", "--output_csv=a"], "leave out --exif, --output_csv"),
    ("eval.py", ["--weights={keras}", "--image={text}"], "not a readable JPEG"),
    ("eval.py", ["--weights={text}.keras"], "not a readable .keras file"),
    ("eval.py", ["--weights={keras}"], "has 3 classes, but dataset 'digits' has 10"),
    ("eval.py", ["--weights={keras}", "--image={text}", "--labels={text}"], "names 1 classes"),
    ("eval.py", ["--watch"], "--watch needs the --model_dir"),
    ("eval.py", ["--watch", "--model_dir={tmp}/run", "--weights={keras}"], "leave out --weights"),
    ("eval.py", ["--watch", "--model_dir={tmp}/run", "--image=a.jpg", "--labels=a"], "leave out --image, --labels"),
    ("eval.py", ["--watch", "--model_dir={tmp}/run", "--image_size=32"], "leave out --image_size"),
    ("eval.py", ["--weights={keras}", "--labels={text}"], "--labels names the classes of an --image"),
    ("eval.py", ["--eval_batch_size=0", "--weights={keras}"], "eval_batch_size"),
    ("export_tflite.py", ["--output_dir={tmp}/o"], "either weights or model_dir"),
    ("export_tflite.py", ["--output_dir={tmp}/o", "--model_dir=/no/such/run"], "holds no training run"),
    ("export_tflite.py", ["--weights={keras}"], "output_dir"),
    ("export_tflite.py", ["--output_dir={tmp}/o", "--weights={keras}", "--formats=fp8"], "fp8"),
    ("export_tflite.py", ["--output_dir={tmp}/o", "--weights={keras}"], "give --dataset=NAME or --images=FOLDER"),
    ("export_tflite.py", ["--output_dir={tmp}/o", "--weights={keras}", "--dataset=digits"], "3 classes"),
]


def test_every_script_has_bad_cases():
    assert {script for script, _, _ in _BAD} == {"train.py", "eval.py", "export_tflite.py"}


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Files that the cases of bad input name."""
    from mixnet_tf.models import build_model

    tmp = tmp_path_factory.mktemp("bad")
    build_model("tiny", classes=3, input_shape=(32, 32, 3)).save(tmp / "x.keras")
    (tmp / "empty").mkdir()
    for name in ("a.jpg", "a.jpg.keras"):
        (tmp / name).write_text("text")
    return {"tmp": tmp, "keras": tmp / "x.keras", "text": tmp / "a.jpg"}


@pytest.mark.parametrize("script, arguments, message", _BAD)
def test_bad_input_is_one_clear_line_and_writes_nothing(script, arguments, message, names, data_dir, tmp_path, capfd):
    arguments = [argument.format(**names) for argument in arguments]
    if script == "train.py":
        arguments.append(f"--model_dir={tmp_path}/run")
    if not any(argument.startswith("--data_dir") for argument in arguments):
        arguments.append(f"--data_dir={data_dir}")
    code, _, err = run(capfd, script, *arguments)
    assert code not in (0, None)
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "run").exists() and not (names["tmp"] / "o").exists()


def test_a_bad_flag_ends_a_command_without_a_traceback(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capfd, "train.py", "--model_dir=/no/such", "--momentum=1", "--eval_batch_size=0")
    assert code == 1
    assert "Traceback" not in err and "eval_batch_size" in err + out


@pytest.mark.soak
def test_a_bad_flag_ends_a_process_without_a_traceback(tmp_path):
    ended = process("train.py", "--model_dir=/no/such", "--momentum=1", "--eval_batch_size=0", cwd=tmp_path)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr and "eval_batch_size" in ended.stderr + ended.stdout
