"""Times training steps of the official recipe: our networks against the same with Keras' own batch normalization.

Each contender trains in a separate process, so that its peak memory can be measured, and they take turns.
EfficientNet-B0 of keras.applications is trained by the same recipe, and timm's mixnet_s in PyTorch where that is
installed.
"""

import collections
import importlib.util
import json
import multiprocessing
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from measurement import median_ratio, write_report
from op_times import op_milliseconds

import mixnet_tf
from mixnet_tf.commands import process
from mixnet_tf.export.report import table
from mixnet_tf.networks import CPU_FORMS, Forms, set_forms
from mixnet_tf.networks.variants import VARIANTS
from mixnet_tf.recipe import Recipe
from mixnet_tf.training import Trainer

_MODELS = flags.DEFINE_list(
    "models", list(VARIANTS), "Networks; each is compared with itself with Keras' batch normalization."
)
_EFFICIENTNET = flags.DEFINE_bool("efficientnet", True, "Whether EfficientNet-B0 takes part.")
_GROWTH = flags.DEFINE_bool(
    "growth", False, "Measure how MixNet-S grows with batch size, image size and replicas instead."
)
_ONEDNN = flags.DEFINE_bool(
    "onednn",
    False,
    "Compare MixNet-S with and without oneDNN instead, both limited to AVX2, as on processors without AVX-512.",
)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds; the figures are medians over them.", lower_bound=1)
_LOOP_STEPS = flags.DEFINE_integer("loop_steps", 4, "Steps per turn.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Also write the figures to this file.")

_TIMM = "timm's mixnet_s"
_SHOWN_OPS = 24
_WARM_UP = 2  # steps; the first traces


class Contender(NamedTuple):
    """What is trained, and how."""

    network: str
    stock_batch_norm: bool = False
    batch_size: int = 16
    image_size: int = 224
    replicas: int = 1
    forms: Forms = CPU_FORMS  # as a new run
    onednn: bool | None = None  # whether TensorFlow uses it, limited to AVX2; None: as it comes, as is AVX-512

    def __str__(self):
        words = ["Keras' normalization"] if self.stock_batch_norm else []
        words += [f"{form} {name}" for name, form in self.forms._asdict().items() if form != getattr(CPU_FORMS, name)]
        words += [] if self.onednn is None else ["oneDNN" if self.onednn else "no oneDNN"]
        size = f"{self.replicas} x {self.batch_size} x {self.image_size} px"
        return ", ".join([self.network, *words, size])

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the environment of the process that trains it; read when TensorFlow or PyTorch is imported."""
        if self.onednn is None:
            return {}
        limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
        return {"TF_ENABLE_ONEDNN_OPTS": str(int(self.onednn)), **limits}


def _model(contender):
    shape = (contender.image_size, contender.image_size, 3)
    if contender.network == "efficientnet-b0":
        return keras.applications.EfficientNetB0(weights=None, input_shape=shape, classifier_activation=None)
    model = mixnet_tf.build_model(contender.network, input_shape=shape, classifier_activation=None)
    return keras.models.clone_model(model, clone_function=_with_stock) if contender.stock_batch_norm else model


def _with_stock(layer):
    if not isinstance(layer, mixnet_tf.networks.BatchNormalization):
        return layer.__class__.from_config(layer.get_config())
    return keras.layers.BatchNormalization(momentum=layer.momentum, epsilon=layer.epsilon, name=layer.name)


def _serve(contender, connection):
    """Builds a contender, then runs the steps that the connection asks for and sends their seconds.

    Receives ("single" or "loop", steps), or ("ops", steps) for the milliseconds of each kind of op; None ends the
    process, which then sends its peak memory in MB.
    """
    run = _our_steps(contender)
    for steps in run.values():
        steps(_WARM_UP)
    connection.send("ready")
    while (request := connection.recv()) is not None:
        kind, steps = request
        if kind == "ops":
            connection.send(op_milliseconds(run["loop"], steps))
            continue
        start = time.perf_counter()
        run[kind](steps)
        connection.send((time.perf_counter() - start) / steps)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class _Timm:
    """A connection to a process that trains timm's network; beside TensorFlow, importing PyTorch can crash."""

    def __init__(self, contender):
        script = pathlib.Path(__file__).parent / "tpu" / "timm_training.py"
        command = [sys.executable, script, str(contender.batch_size), str(contender.image_size)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, request):
        if request is None:
            self._process.stdin.close()
        else:
            print(request[1], file=self._process.stdin, flush=True)

    def recv(self):
        return json.loads(self._process.stdout.readline())


def _our_steps(contender):
    """Dict from "single" and "loop" to a function that takes a number of training steps, and waits for the last."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * contender.replicas)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(names) if contender.replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        batch_size = contender.batch_size * contender.replicas
        model = _model(contender)
        set_forms(model, contender.forms)
        trainer = Trainer(model, Recipe(train_batch_size=batch_size), 1000.0, strategy)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(0, 255, (batch_size, *trainer.model.input_shape[1:])), tf.float32)
    labels = tf.constant(rng.integers(0, 1000, batch_size), tf.int32)
    batch = tf.data.Dataset.from_tensors((images, labels)).repeat()
    batches = iter(strategy.experimental_distribute_dataset(batch.unbatch().batch(batch_size, drop_remainder=True))
                   if contender.replicas > 1 else batch)  # fmt: skip

    def single(steps):
        for _ in range(steps):
            metrics = trainer.train_step(images, labels)
        float(metrics["loss"])

    def loop(steps):
        float(trainer.train_steps(batches, tf.constant(steps))["loss"])

    return {"single": single, "loop": loop}


def compare(contenders, kinds, rounds, steps, with_ops=False):
    """Times contenders that take turns.

    Returns:
        A dict by contender of a dict by kind ("single", "loop") of the seconds per step of each round; a dict by
        contender of the peak memory, MB; and, `with_ops`, of the milliseconds a step of each kind of op.
    """
    context = multiprocessing.get_context("spawn")
    processes, connections = [], {}
    for contender in contenders:
        os.environ.update(contender.environment)
        if contender.network == _TIMM:
            connections[contender] = _Timm(contender)
        else:
            connections[contender], theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(contender, theirs), daemon=True))
            processes[-1].start()
            theirs.close()
        for name in contender.environment:
            del os.environ[name]
        connections[contender].recv()
    seconds = {contender: {kind: [] for kind in kinds} for contender in contenders}
    for _ in range(rounds):
        for contender, connection in connections.items():
            for kind in kinds:
                connection.send((kind, steps))
                seconds[contender][kind].append(connection.recv())
    memory, ops = {}, {}
    for contender, connection in connections.items():
        if with_ops and contender.network != _TIMM:
            connection.send(("ops", steps))
            ops[contender] = connection.recv()
        connection.send(None)
        memory[contender] = connection.recv()
    for each in processes:
        each.join()
    return seconds, memory, ops


def _figures(contender, seconds, memory):
    step = statistics.median(seconds["loop"])
    return {
        "seconds_per_step": round(step, 3),
        "images_per_second": round(contender.batch_size * contender.replicas / step, 2),
        "peak_memory_mb": round(memory),
    }


def _print_ops(ops):
    """A table of the milliseconds of the most expensive kinds of op, one column for each contender."""
    largest = collections.Counter()
    for found in ops.values():
        largest |= collections.Counter(found)
    columns = {"ms a step inside": lambda kind: kind}
    for number, found in enumerate(ops.values(), start=1):
        columns[f"({number})"] = lambda kind, found=found: f"{found.get(kind, 0):.0f}"
    print("\n".join(f"({number}) {contender}" for number, contender in enumerate(ops, start=1)))
    print(table([kind for kind, _ in largest.most_common(_SHOWN_OPS)], columns), flush=True)


def _has_timm():
    return all(importlib.util.find_spec(name) for name in ("torch", "timm"))


def _without_avx_512(batch_size, image_size):
    """MixNet-S in the forms of a new run and in the split form, with and without oneDNN, and timm's."""
    base = Contender("mixnet-s", batch_size=batch_size, image_size=image_size, onednn=True)
    split = {"forms": Forms()}
    others = [split, {"onednn": False}, {**split, "onednn": False}, *([{"network": _TIMM}] if _has_timm() else [])]
    return [base, *(base._replace(**fields) for fields in others)]


def main(_screen):
    rows = {}
    if _GROWTH.value:
        base = Contender("mixnet-s")
        others = [{"batch_size": 8}, {"batch_size": 32}, {"image_size": 160}, {"replicas": 2, "batch_size": 8}]
        groups = [[base, base._replace(**fields)] for fields in others]  # in pairs: all at once would fill the memory
    elif _ONEDNN.value:
        groups = [_without_avx_512(16, 224), _without_avx_512(128, 32)]
    else:
        groups = [[Contender(name), Contender(name, stock_batch_norm=True)] for name in _MODELS.value]
        if _EFFICIENTNET.value:
            groups[0].append(Contender("efficientnet-b0"))
        if _has_timm():
            groups[0].append(Contender(_TIMM))
    for group in groups:
        kinds = ("loop",) if _GROWTH.value or _ONEDNN.value else ("loop", "single")
        seconds, memory, ops = compare(group, kinds, _ROUNDS.value, _LOOP_STEPS.value, _ONEDNN.value)
        ours = seconds[group[0]]
        for contender in group:
            theirs = seconds[contender]
            figures = _figures(contender, theirs, memory[contender])
            figures[f"times_{group[0].network}"] = round(median_ratio(theirs["loop"], ours["loop"]), 3)
            if "single" in kinds:
                figures["loop_overhead"] = round(median_ratio(theirs["loop"], theirs["single"]) - 1, 4)
            print(contender, figures, flush=True)
            if contender in ops:
                figures["ops"] = ops[contender]
            rows.setdefault(str(contender), figures)
        if ops:
            _print_ops(ops)
    write_report(_JSON.value, {"rounds": _ROUNDS.value, "steps_per_round": _LOOP_STEPS.value, "contenders": rows})
    return 0


if __name__ == "__main__":
    process.run(main)
