"""Evaluates a MixNet on every image of a split, on single images, or on checkpoints as training writes them."""

from absl import flags

import mixnet_launch  # noqa: F401 (before TensorFlow)
from mixnet_tf import command_line
from mixnet_tf.data import imagenet_labels, load_split, read_labels
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import build_evaluator, classify, watch
from mixnet_tf.files import write_json
from mixnet_tf.imagenet import CLASSES
from mixnet_tf.recipe import recipe_for
from mixnet_tf.runs import RunConfig
from mixnet_tf.screen import command_screen

command_line.define_model_flags()
_DATASET = flags.DEFINE_string("dataset", None, "Dataset; by default the run's, or digits. As for train.py.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where the data is or, for tensorflow_datasets, is prepared.")
_SPLIT = flags.DEFINE_string("split", None, "Split; by default validation or test.")
_NUM_EVAL_IMAGES = flags.DEFINE_integer("num_eval_images", None, "tfrecord: its images, if not ImageNet's.")
_MISSING_SHARDS = flags.DEFINE_bool("allow_missing_shards", False, command_line.MISSING_SHARDS_HELP)
_CROP = flags.DEFINE_bool("crop", None, "Take the centre crop; by default as the run, or the dataset's recipe.")
_BATCH_SIZE = flags.DEFINE_integer("eval_batch_size", 64, "Images per step.", lower_bound=1)
_OUTPUT_JSON = flags.DEFINE_string("output_json", None, "Also write the measurements to this file.")
_IMAGE = flags.DEFINE_list("image", None, "Classify these image files instead of a dataset.")
_LABELS = flags.DEFINE_string("labels", None, 'File of class names: a line each, or JSON {"0": name, ...}.')
_WATCH = flags.DEFINE_bool("watch", False, "Evaluate the checkpoints of --model_dir until the run's last step.")
_WATCH_SECONDS = flags.DEFINE_float("watch_seconds", 10.0, "Seconds between two looks.", lower_bound=0.0)
_WATCH_TIMEOUT = flags.DEFINE_float("watch_timeout", None, "Give up after so many seconds without a checkpoint.")
_NOT_WITH_WATCH = ("weights", "model_name", "num_label_classes", "image_size", "image", "labels")


def main():
    """Evaluates as the flags say; returns the exit code."""
    if _WATCH.value:
        return _watch()
    if _LABELS.value is not None and not _IMAGE.value:
        raise InputError("--labels names the classes of an --image; a dataset is evaluated without names.")
    opened = command_line.open_model_from_flags()
    screen = command_screen()
    screen.say(f"Evaluating {opened.source}.")
    dataset = _DATASET.value or (opened.config.dataset if opened.config else "digits")
    recipe = opened.config.recipe if opened.config else recipe_for(dataset)
    crop = recipe.crop if _CROP.value is None else _CROP.value
    if _IMAGE.value:
        return _classify(opened, crop)
    split = _load_split(dataset)
    _report(build_evaluator(opened.model, split, crop, _BATCH_SIZE.value)(screen))
    model_dir = flags.FLAGS.model_dir
    if model_dir is not None:
        where = f"--model_dir={model_dir}{command_line.given('data_dir')} --output_dir={model_dir}/export"
        screen.say(f"Next: python export_tflite.py {where}")
    return 0


def _load_split(dataset):
    return load_split(dataset, _DATA_DIR.value, False, _SPLIT.value, _NUM_EVAL_IMAGES.value, _MISSING_SHARDS.value)


def _report(metrics):
    print("  ".join(f"{name} {value}" for name, value in metrics.items()), flush=True)
    if _OUTPUT_JSON.value is not None:
        write_json(_OUTPUT_JSON.value, metrics)


def _classify(opened, crop):
    classes = opened.model.output_shape[-1]
    if _LABELS.value is not None:
        names = read_labels(_LABELS.value, classes)
    else:
        names = (opened.config.label_names if opened.config else None) or _names(classes)
    for path in _IMAGE.value:
        print(path)
        for number, probability in classify(opened.model, path, crop):
            print(f"  {probability:7.2%}  {names[number]}")
    return 0


def _names(classes):
    if classes == CLASSES:
        try:
            return imagenet_labels()
        except ConnectionError:
            print("ImageNet's names cannot be had here; the classes are shown by number.", flush=True)
    return range(classes)


def _watch():
    model_dir = flags.FLAGS.model_dir
    if model_dir is None:
        raise InputError("--watch needs the --model_dir of a training run.")
    given = [f"--{name}" for name in _NOT_WITH_WATCH if flags.FLAGS[name].value is not None]
    if given:
        raise InputError(f"--watch evaluates the run's own model on a whole split; leave out {', '.join(given)}.")
    dataset = _DATASET.value or RunConfig.wait_for(model_dir, _WATCH_SECONDS.value, _WATCH_TIMEOUT.value).dataset
    split = _load_split(dataset)
    watch(model_dir, split, _BATCH_SIZE.value, _WATCH_SECONDS.value, _WATCH_TIMEOUT.value, _report, _CROP.value)
    return 0


if __name__ == "__main__":
    command_line.run(main)
