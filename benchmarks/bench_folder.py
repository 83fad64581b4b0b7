"""Times the first batch of a folder's paths and labels, and its memory, in the order of old runs and of new ones.

python benchmarks/bench_folder.py --report=benchmarks/bench_folder.json
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from unittest import mock

import tensorflow as tf
from absl import app, flags
from measurement import write_report

from mixnet_tf.data import train_examples
from mixnet_tf.data.file_splits import ImageFiles, split_of_files
from mixnet_tf.data.rules import rules_of
from mixnet_tf.files import json_text
from mixnet_tf.recipe import Recipe

_ORDERS = {"buffer": 0, "files": 1}  # data_version
_FIRST_SECONDS, _MEGABYTES = 5.0, 500.0  # targets, of "files"

flags.DEFINE_integer("files", 1_281_167, "Number of made-up paths.", lower_bound=1)
flags.DEFINE_integer("classes", 1000, "Classes.", lower_bound=1)
flags.DEFINE_integer("batch_size", 256, "Examples per batch.", lower_bound=1)
flags.DEFINE_integer("rounds", 3, "Rounds.", lower_bound=1)
flags.DEFINE_string("report", None, "JSON file for the figures.")
flags.DEFINE_enum("order", None, list(_ORDERS), "Measure only this order, in this process.")


def _peak():
    """The peak memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _listed(files, classes):
    """Made-up paths by class, as a listing returns them."""
    number = -(-files // classes)
    return [
        [f"/data/imagenet/train/n{label:08d}/n{label:08d}_{place}.JPEG" for place in range(number)]
        for label in range(classes)
    ]


def _measure(values):
    """Seconds from the listing to the first batch, and to one in the second epoch; peak memory with the listing, MB."""
    tf.constant(0)  # TensorFlow starts its threads with the first op
    before = _peak()
    images = _listed(values.files, values.classes)
    names = tuple(f"n{label:08d}" for label in range(values.classes))
    start, cpu = time.perf_counter(), time.process_time()
    with mock.patch.object(tf.io, "read_file", tf.identity):  # no file is opened
        split = split_of_files("train", ImageFiles("folder", "", names, images), rules_of(_ORDERS[values.order]))
        del images
        seconds = []
        for first in (0, split.num_examples + split.num_examples // 2):
            examples = train_examples(split, Recipe(), first).map(lambda example, _: (example["id"], example["label"]))
            next(iter(examples.batch(values.batch_size)))
            seconds += [time.perf_counter() - start, time.process_time() - cpu]
            start, cpu = time.perf_counter(), time.process_time()
    names = ("first_batch", "first_batch_cpu", "resumed_in_the_middle", "resumed_in_the_middle_cpu")
    return {**dict(zip(names, seconds, strict=True)), "megabytes": _peak() - before}


def _in_a_process(values, order):
    command = [sys.executable, __file__, f"--order={order}"]
    command += [f"--{name}={values[name].value}" for name in ("files", "classes", "batch_size")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(shown.splitlines()[-1])


def main(argv):
    del argv
    values = flags.FLAGS
    if values.order is not None:
        print(json_text(_measure(values), indent=None))
        return
    measured = {order: [] for order in _ORDERS}
    for _ in range(values.rounds):  # in turns, so that other work on the machine meets both alike
        for order in _ORDERS:
            measured[order].append(_in_a_process(values, order))
    medians = {
        order: {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        for order, rounds in measured.items()
    }
    for order, median in medians.items():
        print(f"{order}: " + ", ".join(f"{name} {value:.1f}" for name, value in median.items()))
    write_report(
        values.report,
        {
            "files": values.files,
            "classes": values.classes,
            "rounds": measured,
            "medians": medians,
            "targets": {"first_batch": _FIRST_SECONDS, "megabytes": _MEGABYTES},
        },
    )
    new = medians["files"]
    if new["first_batch"] > _FIRST_SECONDS or new["megabytes"] > _MEGABYTES:
        sys.exit(f"Expected at most {_FIRST_SECONDS} s and {_MEGABYTES} MB.")


if __name__ == "__main__":
    app.run(main)
