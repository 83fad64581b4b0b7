"""Evaluates a model on every image of a split, on single images, or on a run's checkpoints as they are written."""

import os

import tensorflow as tf
from absl import flags

from mixnet_tf.commands import following, model_flags, settings_flags
from mixnet_tf.commands.images import THRESHOLDS, classify_images, detect_in_images
from mixnet_tf.commands.screen import Screen
from mixnet_tf.data import label_names, log_turned
from mixnet_tf.detection import IOU_THRESHOLD, classes_of, is_detector
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import (
    SHOWN_SCORE,
    build_detection_evaluator,
    build_evaluator,
    check_csv,
    draw_examples,
    noting_origin,
    watch,
)
from mixnet_tf.files import check_can_be_made, write_json
from mixnet_tf.networks import Resizing, class_names
from mixnet_tf.recipe import CLASSIFICATION, DETECTION
from mixnet_tf.reports import write_detection_report, write_report
from mixnet_tf.runs import RunConfig
from mixnet_tf.training import RunOptions, task_of

_WATCH_SECONDS = 10.0  # poll interval
_NOT_WITH_WATCH = (
    "weights",
    "model_name",
    "kernels",
    "num_label_classes",
    "image_size",
    "input",
    *Resizing._fields,
    "exif",
    "image",
    "output_csv",
    "labels",
    "draw",
    "annotations",
    "report_dir",
    *THRESHOLDS,
)


def define_flags() -> None:
    """Defines the command's flags."""
    model_flags.define_model_flags()
    flags.DEFINE_string("dataset", None, "Dataset, as for train.py; by default the run's, or digits.")
    flags.DEFINE_string("split", None, "Split to evaluate on; by default the run's, or validation or test.")
    flags.DEFINE_integer("num_eval_images", None, "tfrecord: number of images, if not ImageNet's.")
    names = ("data_dir", "list", "validation_fraction", "allow_missing_shards", "eval_batch_size")
    settings_flags.define(RunOptions, names, data_dir="data")
    flags.DEFINE_bool("crop", None, "Take the center crop; by default as the model or the dataset's recipe.")
    settings_flags.define_path("output_json", None, "Also write the metrics to this JSON file.")
    settings_flags.define_path(
        "report_dir",
        None,
        "Write a report (report.html and its figures) to this folder: accuracy by class, calibration, mistakes.",
    )
    settings_flags.define_paths(
        "image", "Classify these image files, or all below these folders, or detect objects in them."
    )
    settings_flags.define_path(
        "output_csv",
        None,
        "Write a row for each --image to this CSV file: its path and its five most probable classes. Images that have "
        "a row already are skipped.",
    )
    settings_flags.define_path(
        "draw",
        None,
        "detection: draw the detections in the --image, or in twelve images of the split, into this PNG file.",
    )
    flags.DEFINE_float(
        "score_threshold",
        SHOWN_SCORE,
        "detection: lowest score of the boxes that --image lists and --draw draws.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_float(
        "iou_threshold",
        IOU_THRESHOLD,
        "detection: of two boxes of a class that overlap by more, --image and --draw leave the less probable one out.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    settings_flags.define_path("annotations", None, "detection: JSON file of COCO's own annotations to compare with.")
    settings_flags.define_path("labels", None, 'File of class names: one per line, or JSON {"0": name, ...}.')
    flags.DEFINE_bool(
        "watch", False, "Evaluate the checkpoints of --model_dir as they are written, until the run's last step."
    )
    flags.DEFINE_float("watch_seconds", _WATCH_SECONDS, "Poll interval, seconds.", lower_bound=0.0)
    flags.DEFINE_float("watch_timeout", None, "Give up after this many seconds without a new checkpoint.")


def main(screen: Screen) -> int:
    """Evaluates as the flags say, and returns the exit code."""
    values = flags.FLAGS
    if values.watch:
        return _watch(screen)
    if values.labels is not None and not values.image and values.report_dir is None:
        raise InputError("--labels names the classes of an --image or of a report.")
    if values.report_dir is not None and values.image:
        raise InputError("--report_dir is about a dataset; leave out --image.")
    if values.output_csv is not None:
        if not values.image:
            raise InputError("--output_csv has the classes of images; name them, or their folder, with --image.")
        check_csv(values.output_csv)
    thresholds = _given(THRESHOLDS)
    if thresholds and not values.image and values.draw is None:
        raise InputError(
            f"{' and '.join(thresholds)}: for the boxes that --image lists and --draw draws; COCO's metrics take every "
            "score. Add one of them, or leave it out."
        )
    for name, path in (("output_json", values.output_json), ("draw", values.draw)):
        if path is not None:
            check_can_be_made(name, os.path.dirname(path) or ".")
    if values.report_dir is not None:
        check_can_be_made("report_dir", values.report_dir)
    opened = model_flags.open_model_from_flags()
    screen.say(f"Evaluating {opened.source}.")
    if is_detector(opened.model):
        return _evaluate_detector(opened, screen)
    if given := _given(("annotations", "draw", *THRESHOLDS)):
        raise InputError(f"{opened.source} is an image classifier; leave out {', '.join(given)}, for detectors.")
    dataset = values.dataset or (opened.config.dataset if opened.config else "digits")
    resizing = opened.resizing(dataset, values.crop)
    if values.image:
        return classify_images(opened, resizing, screen)
    found = _load_split(
        task_of(CLASSIFICATION), dataset, values.split or opened.split_name(dataset, False), opened.reading(dataset)
    )
    split, path = noting_origin(found, opened), None
    by_class = opened.config is not None and opened.config.weights_classes
    if opened.config is not None and not split.rules.exif:
        log_turned(split)
    if values.report_dir is None:
        evaluate = build_evaluator(opened.model, split, resizing, values.eval_batch_size, by_class=by_class)
        _report(evaluate(screen.phase), screen)
    else:
        names = label_names(opened.model.output_shape[-1], values.labels, class_names(opened.model))
        measured, path = write_report(
            opened.model,
            split,
            values.report_dir,
            names,
            opened.source,
            resizing,
            values.eval_batch_size,
            screen.phase,
            by_class,
        )
        _report(measured, screen)
    if values.model_dir is not None and not tf.io.gfile.exists(os.path.join(values.model_dir, "export")):
        where = f"{following.flag_in_words('model_dir', values.model_dir)}{following.given('data_dir')}"
        output = following.flag_in_words("output_dir", os.path.join(values.model_dir, "export"))
        export = following.other_command("export_tflite.py")
        screen.say(f"Next: {export} {where} {output}")
    if path is not None:
        screen.say(f"Wrote {path}.")
    return 0


def _given(names):
    """Those of the flags that the command line has."""
    return [f"--{name}" for name in names if flags.FLAGS[name].present]


def _evaluate_detector(opened, screen):
    values = flags.FLAGS
    if values.output_csv is not None:
        raise InputError(f"--output_csv has the classes of images; {opened.source} is a detector.")
    if values.image:
        return detect_in_images(opened, screen)
    dataset = values.dataset or (opened.config.dataset if opened.config else "digit_scenes")
    found = _load_split(
        task_of(DETECTION), dataset, values.split or opened.split_name(dataset, False), opened.reading(dataset)
    )
    split = noting_origin(found, opened)
    known = label_names(classes_of(opened.model), values.labels, class_names(opened.model), split.label_names)
    names = known or range(split.num_classes)
    if values.draw is not None:  # first, because it may be refused
        draw_examples(opened.model, split, names, values.draw, **settings_flags.flag_values(THRESHOLDS))
        screen.say(f"Wrote {values.draw}: what is found in red, what is there in green.")
    if values.report_dir is None:
        evaluate = build_detection_evaluator(opened.model, split, values.eval_batch_size, values.annotations)
        _report(evaluate(screen.phase), screen)
    else:
        measured, path = write_detection_report(
            opened.model,
            split,
            values.report_dir,
            names,
            opened.source,
            values.eval_batch_size,
            values.annotations,
            screen.phase,
        )
        _report(measured, screen)
        screen.say(f"Wrote {path}.")
    return 0


def _load_split(task, dataset, split, reading):
    values = flags.FLAGS
    return task.load_split(
        dataset,
        values.data_dir,
        False,
        split,
        values.num_eval_images,
        values.allow_missing_shards,
        reading=reading.given(list=values.list, validation_fraction=values.validation_fraction),
    )


def _say_measured(metrics, screen):
    screen.say("  ".join(f"{name} {value}" for name, value in metrics.items() if name != "notes"))
    for note in metrics.get("notes", ()):
        screen.say(f"Note: {note}.")


def _report(metrics, screen):
    _say_measured(metrics, screen)
    if flags.FLAGS.output_json is not None:
        write_json(flags.FLAGS.output_json, metrics)


def _watch(screen):
    values = flags.FLAGS
    if values.model_dir is None:
        raise InputError("--watch needs the --model_dir of a training run.")
    if given := _given(_NOT_WITH_WATCH):
        raise InputError(f"--watch evaluates the run's own model on a whole split; leave out {', '.join(given)}.")
    _watch_run(
        values.model_dir,
        values.split,
        lambda metrics: _report(metrics, screen),
        values.watch_seconds,
        values.watch_timeout,
        values.dataset,
        values.crop,
    )
    return 0


def evaluate_beside(screen: Screen, model_dir: str, split: str | None) -> int:
    """Watches a run with the flags of its training command, for TF_CONFIG's evaluator; returns the exit code.

    Args:
        screen: Shows the metrics.
        model_dir: The run's folder.
        split: Name of the split; None: the run's.
    """
    screen.say(f"Evaluating the checkpoints of {model_dir}, as TF_CONFIG says.")
    _watch_run(model_dir, split, lambda metrics: _say_measured(metrics, screen))
    return 0


def _watch_run(model_dir, split, report, seconds=_WATCH_SECONDS, timeout=None, dataset=None, crop=None):
    values = flags.FLAGS
    config = RunConfig.wait_for(model_dir, seconds, timeout)
    task = task_of(config.task)
    dataset = dataset or config.dataset
    images = _load_split(task, dataset, split or config.split_name(dataset, False), config.reading(dataset))
    watch(model_dir, images, values.eval_batch_size, seconds, timeout, report, crop, task.build_evaluator)
