"""Times training steps of the official recipe: our networks against the same with Keras' own batch normalization.

Each contender trains in a separate process, so that its peak memory can be measured, and they take turns.
EfficientNet-B0 of keras.applications is trained by the same recipe.
"""

import multiprocessing
import resource
import statistics
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from measurement import median_ratio, write_report

import mixnet_tf
from mixnet_tf.commands import process
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
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds; the figures are medians over them.", lower_bound=1)
_LOOP_STEPS = flags.DEFINE_integer("loop_steps", 4, "Steps per turn.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Also write the figures to this file.")

_WARM_UP = 2  # steps; the first traces


class Contender(NamedTuple):
    """What is trained, and how."""

    network: str
    stock_batch_norm: bool = False
    batch_size: int = 16
    image_size: int = 224
    replicas: int = 1

    def __str__(self):
        normalization = ", Keras' normalization" if self.stock_batch_norm else ""
        return f"{self.network}{normalization}, {self.replicas} x {self.batch_size} x {self.image_size} px"


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

    Receives ("single" or "loop", steps); None ends the process, which then sends its peak memory in MB.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * contender.replicas)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(names) if contender.replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        batch_size = contender.batch_size * contender.replicas
        trainer = Trainer(_model(contender), Recipe(train_batch_size=batch_size), 1000.0, strategy)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(0, 255, (batch_size, *trainer.model.input_shape[1:])), tf.float32)
    labels = tf.constant(rng.integers(0, 1000, batch_size), tf.int32)
    batch = tf.data.Dataset.from_tensors((images, labels)).repeat()
    batches = iter(strategy.experimental_distribute_dataset(batch.unbatch().batch(batch_size, drop_remainder=True))
                   if contender.replicas > 1 else batch)  # fmt: skip

    def single(steps):
        for _ in range(steps):
            metrics = trainer.train_step(images, labels)
        return metrics

    run = {"single": single, "loop": lambda steps: trainer.train_steps(batches, tf.constant(steps))}
    for kind in run:
        float(run[kind](_WARM_UP)["loss"])
    connection.send("ready")
    while (request := connection.recv()) is not None:
        kind, steps = request
        start = time.perf_counter()
        float(run[kind](steps)["loss"])  # waits for the last step
        connection.send((time.perf_counter() - start) / steps)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compare(contenders, kinds, rounds, steps):
    """Times contenders that take turns.

    Returns:
        A dict by contender of a dict by kind ("single", "loop") of the seconds per step of each round;
        and a dict by contender of the peak memory, MB.
    """
    context = multiprocessing.get_context("spawn")
    processes, connections = [], {}
    for contender in contenders:
        connections[contender], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(contender, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
        connections[contender].recv()
    seconds = {contender: {kind: [] for kind in kinds} for contender in contenders}
    for _ in range(rounds):
        for contender, connection in connections.items():
            for kind in kinds:
                connection.send((kind, steps))
                seconds[contender][kind].append(connection.recv())
    memory = {}
    for contender, connection in connections.items():
        connection.send(None)
        memory[contender] = connection.recv()
    for each in processes:
        each.join()
    return seconds, memory


def _figures(contender, seconds, memory):
    step = statistics.median(seconds["loop"])
    return {
        "seconds_per_step": round(step, 3),
        "images_per_second": round(contender.batch_size * contender.replicas / step, 2),
        "peak_memory_mb": round(memory),
    }


def main(_screen):
    rows = {}
    if _GROWTH.value:
        base = Contender("mixnet-s")
        others = [{"batch_size": 8}, {"batch_size": 32}, {"image_size": 160}, {"replicas": 2, "batch_size": 8}]
        groups = [[base, base._replace(**fields)] for fields in others]  # in pairs: all at once would fill the memory
    else:
        groups = [[Contender(name), Contender(name, stock_batch_norm=True)] for name in _MODELS.value]
        if _EFFICIENTNET.value:
            groups[0].append(Contender("efficientnet-b0"))
    for group in groups:
        kinds = ("loop",) if _GROWTH.value else ("loop", "single")
        seconds, memory = compare(group, kinds, _ROUNDS.value, _LOOP_STEPS.value)
        ours = seconds[group[0]]
        for contender in group:
            theirs = seconds[contender]
            figures = _figures(contender, theirs, memory[contender])
            figures[f"times_{group[0].network}"] = round(median_ratio(theirs["loop"], ours["loop"]), 3)
            if "single" in kinds:
                figures["loop_overhead"] = round(median_ratio(theirs["loop"], theirs["single"]) - 1, 4)
            rows.setdefault(str(contender), figures)
            print(contender, figures, flush=True)
    write_report(_JSON.value, {"rounds": _ROUNDS.value, "steps_per_round": _LOOP_STEPS.value, "contenders": rows})
    return 0


if __name__ == "__main__":
    process.run(main)
