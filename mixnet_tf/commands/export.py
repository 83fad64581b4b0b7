"""Exports a trained MixNet for phones and servers: python export_tflite.py --model_dir=DIR --output_dir=OUT."""

import os

from absl import flags

from mixnet_tf.commands import model_flags, settings_flags
from mixnet_tf.commands.screen import Screen
from mixnet_tf.errors import InputError
from mixnet_tf.export import ExportOptions, ExportSettings, export_opened, task_of, text
from mixnet_tf.settings import fields

_OPTIONS = [name for name in fields(ExportOptions) if name not in (*ExportSettings._fields, "resizing")]


def define_flags() -> None:
    """Defines the command's flags, with the defaults of the settings and options."""
    model_flags.define_model_flags()
    settings_flags.define(ExportSettings)
    settings_flags.define(ExportOptions, _OPTIONS)


def main(screen: Screen) -> int:
    """Exports as the flags say; returns the exit code, 1 if a file failed its gate."""
    settings = ExportSettings(**settings_flags.flag_values(ExportSettings._fields)).check()
    options = ExportOptions(**settings_flags.flag_values(_OPTIONS)).check()
    opened = model_flags.open_model_from_flags()
    screen.say(f"Exporting {opened.source}.")
    task = task_of(opened.model)
    if foreign := [f"--{name}" for name in task.foreign_options if name in flags.FLAGS and flags.FLAGS[name].present]:
        raise InputError(f"{opened.source} is {task.kind}; leave out {', '.join(foreign)}.")
    report = export_opened(opened, settings, options, screen.phase)
    screen.say(text(report))
    rows = [entry for row in report["files"] for entry in (row, *row.get("compiled", ()))]
    written = [os.path.join(settings.output_dir, row["file"]) for row in rows if row["written"]]
    if written:
        screen.say(f"Wrote {', '.join(written)}.")
        if options.accelerator == ExportOptions().accelerator:
            screen.say("For a phone's GPU or NPU there are other files: --accelerator=gpu,npu.")
        screen.say(f"Next: put {written[0]} into an app, as docs/DEPLOYMENT.md shows for Android and Python.")
    return 0 if len(written) == len(rows) else 1
