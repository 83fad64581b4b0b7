"""Exports a trained MixNet for phones and servers: python export_tflite.py --model_dir=DIR --output_dir=OUT."""

import os

from absl import flags

from mixnet_tf.commands import command_line
from mixnet_tf.commands.screen import Screen
from mixnet_tf.export import FORMATS, LARGE_KERNELS, OUTPUTS, ExportOptions, Settings, export_opened, text


def define_flags() -> None:
    """Defines the command's flags, with the defaults of the settings and options."""
    default = {**Settings._field_defaults, **ExportOptions._field_defaults}
    command_line.define_model_flags()
    flags.DEFINE_list(
        "formats", list(default["formats"]), f"Some of {', '.join(FORMATS)}; int8_full has uint8 inputs, outputs."
    )
    flags.DEFINE_string("output_dir", None, "Where the files go.", required=True)
    flags.DEFINE_string(
        "dataset", default["dataset"], "Images to verify and calibrate with, as in train.py; by default the run's."
    )
    flags.DEFINE_string(
        "data_dir", default["data_dir"], "Where the dataset is or, for tensorflow_datasets, is prepared."
    )
    flags.DEFINE_string(
        "images", default["images"], "In place of a dataset: a folder of images, whose classes are not known."
    )
    flags.DEFINE_bool("crop", None, "Take the center crop of encoded images; by default as the run, or the dataset's.")
    flags.DEFINE_integer("num_images", default["num_images"], "Images to verify with, at most.", lower_bound=1)
    flags.DEFINE_integer(
        "calibration_images", default["calibration_images"], "Images to calibrate int8 with, at most.", lower_bound=1
    )
    flags.DEFINE_string(
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
    flags.DEFINE_string("author", default["author"], "Author of the model, for the files' metadata.")
    flags.DEFINE_string("license", default["license"], "License of the model, for the files' metadata.")
    flags.DEFINE_bool("allow_accuracy_drop", default["allow_accuracy_drop"], "Write files that fail their gate, too.")
    flags.DEFINE_integer(
        "latency_runs", default["latency_runs"], "Invocations of each model to time; 0 for none.", lower_bound=0
    )


def main(screen: Screen) -> int:
    """Exports as the flags say; returns the exit code, 1 if a file failed its gate."""
    values = flags.FLAGS
    settings = Settings(**command_line.flag_values(Settings._fields))
    own = set(ExportOptions._fields) - {*Settings._fields, "formats"}
    options = ExportOptions(formats=tuple(values.formats), **command_line.flag_values(own))
    settings.check()
    options.check()
    opened = command_line.open_model_from_flags()
    screen.say(f"Exporting {opened.source}.")
    report = export_opened(opened, settings, options, screen.phase)
    screen.say(text(report))
    written = [os.path.join(settings.output_dir, row["file"]) for row in report["files"] if row["written"]]
    if written:
        screen.say(f"Wrote {', '.join(written)}.")
        screen.say(f"Next: put {written[0]} into an app, as docs/DEPLOYMENT.md shows for Android and Python.")
    return 0 if len(written) == len(report["files"]) else 1
