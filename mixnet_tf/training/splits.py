"""The splits that a run trains on and is evaluated on."""

from collections.abc import Iterable

from absl import logging

from mixnet_tf.class_names import lacking, listed
from mixnet_tf.data import ALL, Reading, Split, count_left_out, naming_corrupt_images
from mixnet_tf.errors import InputError
from mixnet_tf.progress import Progress
from mixnet_tf.runs import RunConfig
from mixnet_tf.training.options import RunOptions
from mixnet_tf.training.tasks import Task


def load_splits(task: Task, dataset: str, options: RunOptions, is_new: bool) -> tuple[Split, Split]:
    """Loads the splits to train on and to evaluate on, which have the same classes.

    A run that resumes keeps the classes that it began with, and reads its data as before where the options do not say
    how.

    Args:
        task: The run's `Task`.
        dataset: The dataset's name.
        options: `RunOptions`.
        is_new: Whether the run has no checkpoint yet.

    Raises:
        ValueError: If the dataset lacks a class of the run that resumes, or cannot be loaded.
    """
    try:
        before = RunConfig.read(options.model_dir)
    except FileNotFoundError:
        before = None
    reading = options.reading(Reading() if before is None else before.reading(dataset))
    wanted = ((options.train_split, options.num_train_images), (options.eval_split, options.num_eval_images))
    train, evaluation = (
        task.load_split(dataset, options.data_dir, is_train, name, count, options.allow_missing_shards, reading=reading)
        for is_train, (name, count) in zip((True, False), wanted, strict=True)
    )
    if train.name == ALL and train.validation_fraction is not None:
        raise InputError(f"train_split: {ALL!r} has the images to evaluate on, too; leave it out.")
    if before is not None and before.dataset == dataset and not (is_new and options.allow_config_change):
        own = train.label_names
        train = train.matched(before.class_names, before.num_label_classes)
        gone = [] if own is None else lacking(train.label_names or (), own)
        if gone and not options.allow_config_change:
            raise InputError(
                f"The run in {options.model_dir} trains {before.num_label_classes} classes; of these, dataset "
                f"{dataset!r} has no {listed(gone)}. Bring them back, or resume with --allow_config_change."
            )
    return train, evaluation.matched(train.label_names, train.num_classes)


def check_boxes(splits: Iterable[Split], progress: Progress) -> None:
    """Reads all boxes once, so that a wrong one is found before the work, and logs how many objects are left out."""
    for split in splits:
        with progress(f"Checking the boxes of split {split.name!r}"), naming_corrupt_images(split, progress):
            left_out = count_left_out(split)
        counts = ", ".join(f"{count} {kind}" for kind, count in left_out._asdict().items())
        logging.info(f"Split {split.name!r}: {split.num_examples} images; objects left out: {counts}.")
