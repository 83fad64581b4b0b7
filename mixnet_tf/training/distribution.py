"""Makes a `tf.distribute` strategy by its name, and tells what depends on it."""

import functools
import json
import os

import tensorflow as tf

from mixnet_tf.errors import InputError, first_line
from mixnet_tf.networks import CPU_FORMS, DENSE, TPU_FORMS, Forms

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
_TF_CONFIG = "TF_CONFIG"
_TRAIN, _EVALUATOR = ("chief", "worker"), "evaluator"  # types of tasks in TF_CONFIG


def make_strategy(name: str = "auto", tpu: str | None = None) -> tf.distribute.Strategy:
    """Returns the strategy of a name.

    Equal calls return the same object, because the collectives of a second one would use the same keys.

    Args:
        name: "one_device"; "mirrored": all GPUs of this machine, or all logical CPUs if it has none;
            "multi_worker": all workers of TF_CONFIG; "tpu"; or "auto": "tpu" if `tpu` is given,
            "multi_worker" if TF_CONFIG names more than one worker, "mirrored" if this machine has
            more than one GPU, else "one_device".
        tpu: Name or address of a TPU; "local" for this machine's.

    Raises:
        ValueError: If the name is unknown, or if its devices do not exist.
    """
    if name not in STRATEGIES:
        raise InputError(f"strategy: expected one of {STRATEGIES}, received {name!r}.")
    if tpu is not None and name not in ("auto", "tpu"):
        raise InputError(f"tpu={tpu!r} goes with strategy auto or tpu, not {name!r}.")
    # Physical devices, because listing the logical ones starts the runtime, and workers have to be joined before that.
    gpus = len(tf.config.list_physical_devices("GPU"))
    if name == "auto":
        name = "tpu" if tpu else "multi_worker" if _workers() > 1 else "mirrored" if gpus > 1 else "one_device"
    if name == "tpu":
        return _tpu_strategy(tpu or "local")
    if name == "multi_worker":
        if _workers() < 1:
            raise InputError("strategy=multi_worker needs TF_CONFIG in the environment; it names no workers.")
        _check_task()
        return _multi_worker_strategy()
    if name == "mirrored":
        return _mirrored_strategy("GPU" if gpus else "CPU")
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files."""
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def default_forms(strategy: tf.distribute.Strategy, jit_compile: bool) -> Forms:
    """The forms in which the layers of a new run compute in training."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return TPU_FORMS
    return CPU_FORMS if on_cpus(strategy) and not jit_compile else Forms()


def on_cpus(strategy: tf.distribute.Strategy) -> bool:
    """Whether neither a TPU nor a GPU trains."""
    return not isinstance(strategy, tf.distribute.TPUStrategy) and not tf.config.list_physical_devices("GPU")


def check_forms(forms: Forms, strategy: tf.distribute.Strategy, jit_compile: bool) -> None:
    """Checks that the devices compute the gradients of layers in these forms.

    Raises:
        ValueError: If they are CPUs, XLA does not compile the step, and `depthwise_form` is "dense".
    """
    if forms.depthwise_form == DENSE and on_cpus(strategy) and not jit_compile:
        raise InputError(
            "depthwise_form=dense: without XLA, TensorFlow computes no gradients of grouped convolutions on a CPU. "
            "Add --jit_compile; or --depthwise_form=split, with --allow_config_change if the run has begun."
        )


def is_evaluator() -> bool:
    """Whether TF_CONFIG makes this process the run's evaluator, which watches the run and does not train.

    Raises:
        ValueError: If TF_CONFIG is not JSON.
    """
    task = _tf_config().get("task")
    return isinstance(task, dict) and task.get("type") == _EVALUATOR


def has_evaluator() -> bool:
    """Whether TF_CONFIG's cluster has an evaluator, a process that watches the run."""
    return bool(_tf_config().get("cluster", {}).get(_EVALUATOR))


def _tf_config():
    text = os.environ.get(_TF_CONFIG) or "{}"
    try:
        config = json.loads(text)
    except json.JSONDecodeError:
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("cluster", {}), dict):
        raise InputError(f"{_TF_CONFIG} is not the JSON of a cluster: {text!r}.")
    for hosts in config.get("cluster", {}).values():
        if not isinstance(hosts, list):
            raise InputError(f"{_TF_CONFIG} is not the JSON of a cluster, with a list of hosts of each kind: {text!r}.")
    return config


def _workers():
    cluster = _tf_config().get("cluster", {})
    return sum(len(cluster.get(job, [])) for job in _TRAIN)


def _check_task():
    """Raises a ValueError if TF_CONFIG does not make this process a worker; before TensorFlow's runtime starts."""
    config = _tf_config()
    cluster, task = config.get("cluster", {}), config.get("task")
    kind, index = (task.get("type"), task.get("index")) if isinstance(task, dict) else (None, None)
    if kind == _EVALUATOR:
        raise InputError(f"{_TF_CONFIG}: an evaluator does not train; it runs train.py, or eval.py --watch.")
    if kind not in _TRAIN or str(index) not in map(str, range(len(cluster.get(kind, [])))):
        raise InputError(
            f'{_TF_CONFIG}: expected "task": {{"type": "worker", "index": 0}}, the type (chief or worker) and index '
            f"of a task of its cluster, a different task on each host; received {task}."
        )


@functools.cache
def _multi_worker_strategy():
    return tf.distribute.MultiWorkerMirroredStrategy()


@functools.cache
def _mirrored_strategy(kind):
    return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(kind)])


@functools.cache
def _tpu_strategy(tpu):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        if tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = first_line(error)
        raise InputError(f"No TPU {tpu!r} can be reached: {reason}. Is tensorflow-tpu installed?") from error
