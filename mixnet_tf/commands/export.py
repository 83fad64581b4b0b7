"""Exports a trained MixNet for phones and servers: python export_tflite.py --model_dir=DIR --output_dir=OUT."""

import os

from absl import flags

from mixnet_tf.commands import command_line, settings_flags
from mixnet_tf.commands.screen import Screen
from mixnet_tf.data import label_names, load_objects, object_eval_batches
from mixnet_tf.detection import (
    CODE_SCALES,
    IOU_THRESHOLD,
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    anchors_of,
    classes_of,
    is_detector,
    suppress,
)
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import build_detection_evaluator, matched
from mixnet_tf.export import (
    FORMATS,
    LARGE_KERNELS,
    OUTPUTS,
    POSTPROCESSES,
    Decoding,
    DetectorOptions,
    ExportOptions,
    Settings,
    detector_text,
    export_detector,
    export_opened,
    text,
)
from mixnet_tf.files import check_can_be_made
from mixnet_tf.networks import class_names
from mixnet_tf.runs import noting_training_images

_COMPARED = 32  # images whose outputs are compared with Keras' one by one
_NOT_OF_DETECTORS = ("images", "crop", "batch_size", "output", "int8_float_parts")


def define_flags() -> None:
    """Defines the command's flags, with the defaults of the settings and options."""
    default = {**Settings._field_defaults, **ExportOptions._field_defaults}
    command_line.define_model_flags()
    flags.DEFINE_list(
        "formats", list(default["formats"]), f"Some of {', '.join(FORMATS)}; int8_full has uint8 inputs, outputs."
    )
    settings_flags.define_path("output_dir", None, "Where the files go.", required=True)
    flags.DEFINE_string(
        "dataset", default["dataset"], "Images to verify and calibrate with, as in train.py; by default the run's."
    )
    settings_flags.define_path(
        "data_dir", default["data_dir"], "Where the dataset is or, for tensorflow_datasets, is prepared."
    )
    settings_flags.define_path(
        "images", default["images"], "In place of a dataset: a folder of images, whose classes are not known."
    )
    flags.DEFINE_bool("crop", None, "Take the center crop of encoded images; by default as the run, or the dataset's.")
    flags.DEFINE_integer("num_images", default["num_images"], "Images to verify with, at most.", lower_bound=1)
    flags.DEFINE_integer(
        "calibration_images", default["calibration_images"], "Images to calibrate int8 with, at most.", lower_bound=1
    )
    settings_flags.define_path(
        "labels", default["labels"], "Class names: a line each, or JSON keyed by number; by default the dataset's."
    )

    flags.DEFINE_integer(
        "batch_size", default["batch_size"], "Images in a batch of the TFLite files; 0 for any number.", lower_bound=0
    )
    flags.DEFINE_enum("output", default["output"], OUTPUTS, "What the files compute.")
    flags.DEFINE_enum(
        "large_kernels",
        default["large_kernels"],
        LARGE_KERNELS,
        "Depthwise kernels over 25 taps: as sums of small ones.",
    )
    flags.DEFINE_integer(
        "int8_float_parts",
        default["int8_float_parts"],
        "int8: parts kept float, those that lose most by int8.",
        lower_bound=0,
    )
    flags.DEFINE_enum(
        "postprocess",
        None,
        POSTPROCESSES,
        "detection: nms, the default: boxes decoded and suppressed in the file; none: coded boxes and scores.",
    )
    flags.DEFINE_string("author", default["author"], "Author of the model, for the files' metadata.")
    flags.DEFINE_string("license", default["license"], "License of the model, for the files' metadata.")
    flags.DEFINE_bool("allow_accuracy_drop", default["allow_accuracy_drop"], "Write files that fail their gate, too.")
    flags.DEFINE_integer(
        "latency_runs", default["latency_runs"], "Invocations of each model to time; 0 for none.", lower_bound=0
    )


def _export_detector(opened, settings, screen):
    """Exports a detector, compared with Keras on images of the split to evaluate on; gives the report."""
    values = flags.FLAGS
    other = [f"--{name}" for name in _NOT_OF_DETECTORS if flags.FLAGS[name].present]
    if other:
        raise InputError(f"{opened.source} is a detector; leave out {', '.join(other)}.")
    own = set(DetectorOptions._fields) - {"formats", "postprocess"}
    options = DetectorOptions(
        formats=tuple(values.formats), postprocess=values.postprocess or "nms", **settings_flags.flag_values(own)
    ).check()
    model, config = opened.model, opened.config
    dataset = settings.dataset or (config.dataset if config else "digit_scenes")
    found = load_objects(dataset, settings.data_dir, False, data_version=opened.data_version)
    whole = noting_training_images(found, config)
    number = min(settings.num_images, whole.num_examples)
    first = whole._replace(num_examples=number, read=lambda *place: whole.read(*place).take(number))
    split = matched(model, first, classes_of(model))
    size, anchors = model.input_shape[1], anchors_of(model)
    images = _first_images(split, size, min(number, _COMPARED))
    calibration_images = None
    if "int8" in options.formats:  # the images that the detector learned are not those it is verified with
        train_split = config.train_split if config else None
        learned = load_objects(dataset, settings.data_dir, True, train_split, data_version=opened.data_version)
        calibration_images = _first_images(learned, size, min(settings.calibration_images, learned.num_examples))
    decoding = Decoding(anchors, CODE_SCALES, classes_of(model), MAX_DETECTIONS, IOU_THRESHOLD, SCORE_THRESHOLD)

    def measure(predict):
        return build_detection_evaluator(model, split, predict=predict)(screen.phase)

    return export_detector(
        model,
        settings.output_dir,
        images,
        decoding,
        lambda codes, scores: suppress(codes, scores, anchors),
        measure,
        calibration_images=calibration_images,
        label_names=label_names(
            classes_of(opened.model), flags.FLAGS.labels, class_names(opened.model), split.label_names
        ),
        options=options,
        notes={"source": opened.source, "dataset": dataset, "split": split.name, "notes": list(split.notes)},
        progress=screen.phase,
    )


def _first_images(split, size, number):
    return next(iter(object_eval_batches(split, size, number)))[0].numpy()


def main(screen: Screen) -> int:
    """Exports as the flags say; returns the exit code, 1 if a file failed its gate."""
    values = flags.FLAGS
    settings = Settings(**settings_flags.flag_values(Settings._fields))
    own = set(ExportOptions._fields) - {*Settings._fields, "formats"}
    options = ExportOptions(formats=tuple(values.formats), **settings_flags.flag_values(own))
    settings.check()
    options.check()
    check_can_be_made("output_dir", settings.output_dir)
    opened = command_line.open_model_from_flags()
    screen.say(f"Exporting {opened.source}.")
    if is_detector(opened.model):
        report = _export_detector(opened, settings, screen)
        screen.say(detector_text(report))
    elif values.postprocess is not None:
        raise InputError("--postprocess goes with a detector.")
    else:
        report = export_opened(opened, settings, options, screen.phase)
        screen.say(text(report))
    written = [os.path.join(settings.output_dir, row["file"]) for row in report["files"] if row["written"]]
    if written:
        screen.say(f"Wrote {', '.join(written)}.")
        screen.say(f"Next: put {written[0]} into an app, as docs/DEPLOYMENT.md shows for Android and Python.")
    return 0 if len(written) == len(report["files"]) else 1
