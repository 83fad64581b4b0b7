"""A training run made ready: everything checked, the data open, the model built or restored."""

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf
from absl import logging

from mixnet_tf.class_names import lacking, listed
from mixnet_tf.data import DATA_VERSION, Split, count_left_out, naming_corrupt_images
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, check_can_be_made
from mixnet_tf.networks import is_network_file, network_content, network_name, stages_and_params, unroll
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import CLASSIFICATION, DETECTION, DetectionRecipe, Recipe, validate
from mixnet_tf.runs import CHECKPOINTS, CONFIG, RunConfig, newest_checkpoint, noting_training_images
from mixnet_tf.settings import check
from mixnet_tf.training.checkpointing import Checkpointer
from mixnet_tf.training.distribution import is_chief, make_strategy
from mixnet_tf.training.starting import start_from
from mixnet_tf.training.tasks import Task, task_of
from mixnet_tf.training.trainer import Trainer
from mixnet_tf.weights import Arrays, read_weights


class Settings(NamedTuple):
    """How a run is carried out, and on which data.

    The recipe decides the computation but for three things. `strategy`, `jit_compile` and `deterministic` change
    rounding. The number of replicas decides which dropout masks are drawn and, unless the recipe has
    `sync_batch_norm`, how many images batch normalization takes its moments over: `train_batch_size` over replicas.
    The number of hosts decides the order of the images.

    Attributes:
        model_dir: The run's folder.
        data_dir: Where the data is or, for tensorflow_datasets, is prepared.
        train_split: Split to train on; None: "train".
        eval_split: Split to evaluate on; None: the first of "validation", "test", "val", "eval".
        num_train_images: tfrecord: images to train on; None: ImageNet's, or counted.
        num_eval_images: tfrecord: images to evaluate on; None: ImageNet's, or counted.
        allow_missing_shards: tfrecord: whether files named `*-of-N` may be fewer than N.
        eval_batch_size: Images per evaluation step over all replicas.
        strategy: One of `STRATEGIES`.
        tpu: Name or address of a TPU; None: none, unless `strategy` asks for this machine's.
        steps_per_loop: Steps between checks for signals and metrics.
        checkpoint_steps: Steps between checkpoints; None: once per epoch, but after 100 to 2,500 steps.
        use_cache: Whether to keep the encoded images in memory.
        jit_compile: Whether XLA compiles the step.
        deterministic: Whether equal runs give bit-equal results, at some cost of speed.
        allow_config_change: Whether to resume in a folder of another configuration.
    """

    model_dir: str
    data_dir: str
    train_split: str | None = None
    eval_split: str | None = None
    num_train_images: int | None = None
    num_eval_images: int | None = None
    allow_missing_shards: bool = False
    eval_batch_size: int = 64
    strategy: str = "auto"
    tpu: str | None = None
    steps_per_loop: int = 10
    checkpoint_steps: int | None = None
    use_cache: bool = False
    jit_compile: bool = False
    deterministic: bool = False
    allow_config_change: bool = False


class Run(NamedTuple):
    """A run that is ready to train, at the step where it starts or resumes."""

    config: RunConfig
    settings: Settings
    task: Task
    train_split: Split
    eval_split: Split
    trainer: Trainer
    checkpointer: Checkpointer
    evaluate: Callable
    total_steps: int

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run's files."""
        return is_chief(self.trainer.strategy)


class Prepared(NamedTuple):
    """What `open_run` takes: everything checked, the data open, nothing built or written."""

    config: RunConfig
    settings: Settings
    train_split: Split
    eval_split: Split
    strategy: tf.distribute.Strategy
    first_weights: Arrays | None


def prepare(
    model_name: StrPath,
    dataset: str,
    recipe: Recipe,
    settings: Settings,
    weights: StrPath | None = None,
    progress: Progress = silent,
    kernel_size: int | Sequence[int] | None = None,
    detection: DetectionRecipe | None = None,
) -> Prepared:
    """Checks all that can be checked before anything is built, and opens the data.

    The arguments and errors are those of `mixnet_tf.training.train`. Writes nothing.

    Returns:
        The arguments of `open_run`.
    """
    validate(recipe)
    task_name = CLASSIFICATION if detection is None else DETECTION
    task = task_of(task_name)
    task.check(recipe)
    if detection is not None:
        check(detection)
    network = stages_and_params(model_name, override_params=recipe.model_overrides, kernel_size=kernel_size)
    check_can_be_made("model_dir", settings.model_dir)
    if recipe.freeze != "none" and weights is None:
        raise InputError(f"freeze={recipe.freeze!r} keeps what is loaded; give the weights to start from.")
    strategy = make_strategy(settings.strategy, settings.tpu)  # before anything is computed, as TensorFlow asks
    # A run that resumes does not need the weights that it started from.
    starts = newest_checkpoint(os.path.join(settings.model_dir, CHECKPOINTS)) is None
    # Before the scope: in it a variable that one host makes and another does not would leave both waiting.
    first_weights = read_weights(weights, unroll(*network)) if weights is not None and starts else None
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    logging.info(f"Training {model_name} on {dataset} in {settings.model_dir}.")
    with progress(f"Opening dataset {dataset}", draws_itself=True):
        train_split, eval_split = _load_splits(task, dataset, settings, _run_to_resume(settings), starts)
    if detection is not None and starts:
        _check_objects((train_split, eval_split), progress)
    config = RunConfig(
        network_name(model_name),
        train_split.num_classes,
        dataset,
        train_split.num_examples,
        recipe,
        train_split.label_names,
        None if weights is None else os.fspath(weights),
        train_split=train_split.name,
        eval_split=eval_split.name,
        train_shards=len(train_split.files),
        missing_shards=train_split.missing_shards + eval_split.missing_shards,
        network=_network(model_name, kernel_size),
        task=task_name,
        detection=detection,
        data_version=train_split.data_version,
    )
    _check_warmup(recipe, train_split.num_examples)
    return Prepared(config, settings, train_split, eval_split, strategy, first_weights)


def open_run(
    config: RunConfig,
    settings: Settings,
    train_split: Split,
    eval_split: Split,
    strategy: tf.distribute.Strategy | None = None,
    first_weights: Arrays | None = None,
) -> Run:
    """Builds or restores what a run trains. Writes nothing but config.json.

    Args:
        config: What it trains.
        settings: `Settings`.
        train_split: The `data.Split` to train on.
        eval_split: The one to evaluate on.
        strategy: A `tf.distribute.Strategy`; None for the current one.
        first_weights: What a new run starts from; None: random weights.

    Returns:
        A `Run`.

    Raises:
        ValueError: If the folder holds a run of another configuration.
    """
    _check_config(config, settings)
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
    recipe, task = config.recipe, task_of(config.task)
    eval_split = noting_training_images(eval_split, config)
    total_steps = recipe.total_steps(train_split.num_examples)
    trainer = _build_trainer(config, task, strategy, total_steps, settings.jit_compile, first_weights)
    evaluate = task.build_evaluator(
        trainer.ema_model, eval_split, recipe.crop, settings.eval_batch_size, strategy, settings.jit_compile
    )
    if is_chief(strategy):
        config.write(settings.model_dir)
    checkpointer = Checkpointer(trainer, settings.model_dir)
    restored = checkpointer.restore()
    if restored is not None:
        logging.info(f"Resuming from {restored}.")
    return Run(config, settings, task, train_split, eval_split, trainer, checkpointer, evaluate, total_steps)


def _network(model_name, kernel_size):
    """The content of a run's network file; None for a released network with its own kernels."""
    if kernel_size is None and not is_network_file(model_name):
        return None
    return network_content(*stages_and_params(model_name, kernel_size=kernel_size))


def _check_objects(splits, progress):
    """Reads all boxes once, so that a wrong one is found before the work, and says what is left out."""
    for split in splits:
        with progress(f"Checking the boxes of split {split.name!r}"), naming_corrupt_images(split, progress):
            left_out = count_left_out(split)
        counts = ", ".join(f"{count} {kind}" for kind, count in left_out._asdict().items())
        logging.info(f"Split {split.name!r}: {split.num_examples} images; objects left out: {counts}.")


def _run_to_resume(settings):
    """The configuration of the run in the folder; None for a new run."""
    try:
        return RunConfig.read(settings.model_dir)
    except FileNotFoundError:
        return None


def _load_splits(task, dataset, settings, there, starts):
    """The splits to train on and to evaluate on, which have the same classes."""
    version = DATA_VERSION if there is None else there.data_version  # a run that resumes keeps its own
    wanted = ((settings.train_split, settings.num_train_images), (settings.eval_split, settings.num_eval_images))
    train, evaluation = (
        task.load_split(
            dataset, settings.data_dir, is_train, name, count, settings.allow_missing_shards, data_version=version
        )
        for is_train, (name, count) in zip((True, False), wanted, strict=True)
    )
    is_changed = there is None or there.dataset != dataset or (starts and settings.allow_config_change)
    if not is_changed:  # the run's classes are those that it began with
        own = train.label_names
        train = train.matched(there.class_names, there.num_label_classes)
        gone = [] if own is None else lacking(train.label_names or (), own)
        if gone and not settings.allow_config_change:
            raise InputError(
                f"The run in {settings.model_dir} trains {there.num_label_classes} classes; of these, dataset "
                f"{dataset!r} has no {listed(gone)}. Bring them back, or resume with --allow_config_change."
            )
    return train, evaluation.matched(train.label_names, train.num_classes)


def _check_warmup(recipe, num_images):
    """Warns of a run that is over before its learning rate has reached the recipe's."""
    total_steps = recipe.total_steps(num_images)
    if total_steps <= recipe.warmup_epochs * recipe.steps_per_epoch(num_images):
        logging.warning(
            f"The run's {total_steps} steps are within the warm-up of {recipe.warmup_epochs:g} epochs: the learning "
            "rate only rises. To get past it, train longer, or give a smaller --warmup_epochs."
        )


def _build_trainer(config, task, strategy, total_steps, jit_compile, first_weights):
    recipe = config.recipe
    random.seed(recipe.seed)  # where Keras draws the seeds of initializers and dropout from
    with strategy.scope(), dtype_policy(recipe.precision):
        model = config.build_model(classifier_activation=None)
        if first_weights is not None:
            start_from(first_weights, config, model)
        steps_per_epoch = recipe.steps_per_epoch(config.num_train_images)
        objective = task.objective(model, config)
        return Trainer(model, recipe, steps_per_epoch, strategy, total_steps, jit_compile, objective)


def _check_config(config, settings):
    path = os.path.join(settings.model_dir, CONFIG)
    if settings.allow_config_change or not tf.io.gfile.exists(settings.model_dir):
        return
    try:
        there = RunConfig.read(settings.model_dir)
    except FileNotFoundError:
        return
    differences = there.differences(config)
    if differences:
        listing = "\n".join(f"  {line}" for line in differences)
        raise InputError(
            f"{path} is of another configuration; name another model_dir, or resume with --allow_config_change.\n"
            f"{listing}"
        )


@contextlib.contextmanager
def dtype_policy(precision: str) -> Iterator[None]:
    """Within its `with` block Keras builds layers of a recipe's precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
