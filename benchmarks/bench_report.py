"""Times an evaluation with and without a report, and measures its memory over 50,000 images of 1,000 classes.

python benchmarks/bench_report.py --report=benchmarks/bench_report.json
"""

import pathlib
import resource
import statistics
import tempfile

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf
from absl import app, flags
from measurement import in_turns, median_ratio, write_report

import mixnet_tf
from mixnet_tf.data import Split
from mixnet_tf.evaluation import build_evaluator
from mixnet_tf.reports import write_report as write_page

_CLASSES = 1000

flags.DEFINE_integer("images", 640, "Images per evaluation.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)
flags.DEFINE_integer("many", 50_000, "Images for the measurement of memory.", lower_bound=1)
flags.DEFINE_string("report", None, "JSON file for the figures.")


def _split(count, encoded):
    """One image repeated, labelled with all classes in turn."""

    def read(shuffle_seed=None, shard=0, num_shards=1):
        return tf.data.Dataset.range(count).map(
            lambda number: {"image": encoded, "label": number % _CLASSES, "id": tf.strings.as_string(number)}
        )

    return Split("made", "test", count, None, _CLASSES, read)


def _megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv):
    del argv
    values = flags.FLAGS
    photograph = pathlib.Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"
    split = _split(values.images, photograph.read_bytes())
    model = mixnet_tf.MixNetS(weights=None, input_shape=(224, 224, 3))
    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turns(
            {
                "evaluation": lambda: lambda: build_evaluator(model, split)(),
                "report": lambda: lambda: write_page(model, split, folder),
            },
            values.rounds,
        )
        ratio = median_ratio(seconds["report"]["wall"], seconds["evaluation"]["wall"])
        of_processor = median_ratio(seconds["report"]["cpu"], seconds["evaluation"]["cpu"])
        medians = {name: statistics.median(each["wall"]) for name, each in seconds.items()}

        layers = [keras.layers.Flatten(), keras.layers.Dense(_CLASSES, "softmax")]
        small = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        dot = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8))
        write_page(small, _split(values.many // 10, dot), folder, crop=False)
        before = _megabytes()
        write_page(small, _split(values.many, dot), folder, crop=False)
        growth = _megabytes() - before
    print(f"{values.images} images: report / evaluation {ratio:.3f} (processor time {of_processor:.3f}), {medians} s")
    print(f"{values.many} images after {values.many // 10}: {growth:.0f} MB more at the peak")
    write_report(
        values.report,
        {
            "images": values.images,
            "seconds": seconds,
            "report_over_evaluation": ratio,
            "report_over_evaluation_processor_time": of_processor,
            "many_images": values.many,
            "peak_growth_mb_from_a_tenth_of_them": growth,
        },
    )


if __name__ == "__main__":
    app.run(main)
