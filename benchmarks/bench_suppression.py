"""A detector's AP and the time of its suppression, over the thresholds of score and IoU.

python benchmarks/bench_suppression.py --weights=runs/detection-demo/final.keras --json=FILE

AP is that of the trained detector in Keras. The score threshold is chosen on the validation scenes: the highest that
costs less than 0.1 points of AP there. Then the IoU thresholds are tried with it. Milliseconds are those of a larger
detector, whose class predictors are copies of the trained ones, on mosaics of validation scenes; on each image it takes
turns with the same detector without suppression.
"""

import itertools
import statistics
import tempfile

import numpy as np
from absl import flags
from measurement import in_turns, median_ratio, write_report

from mixnet_tf import SSDLite
from mixnet_tf.commands import process
from mixnet_tf.data import load_objects, object_eval_batches
from mixnet_tf.detection import IOU_THRESHOLD, SCORE_THRESHOLD, class_predictors, classes_of, suppress
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import build_detection_evaluator
from mixnet_tf.export import Detector, ExportOptions, runtime
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.saved_models import load_keras_file

_WEIGHTS = flags.DEFINE_string("weights", None, "A trained detector, a .keras file.", required=True)
_NETWORK = flags.DEFINE_string("network", "mixnet-s", "The detector's network.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where digit_scenes is prepared.")
_SCORES = flags.DEFINE_list("scores", ["0.001", "0.01", "0.03", "0.05", "0.1", "0.2", "0.3"], "Score thresholds.")
_IOUS = flags.DEFINE_list("ious", ["0.4", "0.5", "0.6", "0.7"], "IoU thresholds.")
_CLASSES = flags.DEFINE_integer("classes", 80, "Classes of the detector that is timed, a multiple of its own.")
_SIZE = flags.DEFINE_integer("image_size", 320, "Pixels of the detector that is timed.")
_RUNS = flags.DEFINE_integer("runs", 40, "Rounds, each with another image.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "JSON file for the figures.")
_BATCH = 50  # scenes
_MAX_LOST = 0.001  # AP on the validation scenes


def _precision_of(model, split):
    """A function of the thresholds of score and IoU to AP on a split, where the network is run once."""
    task = Detector(model, ExportOptions())
    outputs = [task.answers(images) for images, _ in object_eval_batches(split, model.input_shape[1], _BATCH)]

    def precision(score, overlap):
        batches = iter(outputs)

        def predict(_):
            found = next(batches)
            return suppress(found["boxes"], found["scores"], task.decoding.anchors, score, overlap)

        return build_detection_evaluator(model, split, _BATCH, predict=predict)()["AP"]

    return precision


def _tiled(model):
    """The detector with more classes, each a copy of one of its own, for larger images."""
    classes = classes_of(model)
    if _CLASSES.value % classes:
        raise InputError(f"classes: expected a multiple of {classes}; received {_CLASSES.value}.")
    larger = SSDLite(_NETWORK.value, _CLASSES.value, (_SIZE.value, _SIZE.value, 3))
    predictors = class_predictors(larger)
    for layer in (layer for layer in larger.layers if layer.weights):
        weights = model.get_layer(layer.name).get_weights()
        layer.set_weights([_copied(each, classes) for each in weights] if layer in predictors else weights)
    return larger


def _copied(weight, classes):
    """Weights of a class predictor, (..., anchors x (1 + classes)), with the classes repeated."""
    slots = weight.reshape(*weight.shape[:-1], -1, 1 + classes)
    copies = [slots[..., 1:]] * (_CLASSES.value // classes)
    return np.concatenate([slots[..., :1], *copies], -1).reshape(*weight.shape[:-1], -1)


def _mosaics(split, scene):
    """Images of the larger size, of scenes side by side, float32 (images, 1, size, size, 3)."""
    side = -(-_SIZE.value // scene)
    number = min(_RUNS.value, split.num_examples // side**2)
    scenes = next(iter(object_eval_batches(split, scene, number * side**2)))[0].numpy()
    rows = scenes.reshape(-1, side, side, scene, scene, 3).swapaxes(2, 3)
    return rows.reshape(-1, 1, side * scene, side * scene, 3)[:, :, : _SIZE.value, : _SIZE.value]


def _seconds(model, scores, images):
    """Seconds of each round of the files with each score threshold and, by the key None, without suppression."""
    contents = {}
    for score in (None, *scores):
        form = {"postprocess": "none"} if score is None else {"score_threshold": score}
        with tempfile.TemporaryDirectory() as scratch:
            contents[score] = Graphs(Detector(model, ExportOptions(**form)), None, scratch).convert("fp32")

    def contender(content):
        loaded, shown = runtime.interpreter(content), itertools.cycle(images)
        place = loaded.get_input_details()[0]["index"]

        def prepare():
            loaded.set_tensor(place, next(shown))
            return loaded.invoke

        return prepare

    measured = in_turns({score: contender(content) for score, content in contents.items()}, _RUNS.value)
    return {score: seconds["wall"] for score, seconds in measured.items()}


def main(screen):
    """Measures AP, chooses, measures milliseconds, and prints a table."""
    model = load_keras_file(_WEIGHTS.value)
    larger = _tiled(model)
    splits = {name: load_objects("digit_scenes", _DATA_DIR.value, False, split=name) for name in ("validation", "test")}
    precisions = {name: _precision_of(model, split) for name, split in splits.items()}
    scores = [SCORE_THRESHOLD, *map(float, _SCORES.value)]
    rows = [
        {"score": score, "iou": IOU_THRESHOLD, **{name: of(score, IOU_THRESHOLD) for name, of in precisions.items()}}
        for score in scores
    ]
    chosen = max(row["score"] for row in rows if rows[0]["validation"] - row["validation"] < _MAX_LOST)
    for overlap in map(float, _IOUS.value):
        rows.append({"score": chosen, "iou": overlap, **{name: of(chosen, overlap) for name, of in precisions.items()}})
    seconds = _seconds(larger, scores, _mosaics(splits["validation"], model.input_shape[1]))
    network = seconds.pop(None)
    for row in rows[: len(scores)]:
        own = seconds[row["score"]]
        row["suppression_ms"] = 1e3 * statistics.median(a - b for a, b in zip(own, network, strict=True))
        row["to_network"] = median_ratio(own, network) - 1
    for row in rows:
        of_time = f"  {row['suppression_ms']:8.2f} ms  {row['to_network']:6.1%}" if "to_network" in row else ""
        screen.say(
            f"score {row['score']:<7g} IoU {row['iou']:g}  AP {row['validation']:.2%} (test {row['test']:.2%}){of_time}"
        )
    milliseconds = 1e3 * statistics.median(network)
    screen.say(f"chosen on the validation scenes: {chosen:g}; the network alone takes {milliseconds:.2f} ms")
    screen.say(f"{_CLASSES.value} classes, {_SIZE.value} px, {runtime.RUNTIME}; {runtime.machine()}")
    write_report(_JSON.value, {"rows": rows, "chosen": chosen, "network_ms": milliseconds, "runtime": runtime.RUNTIME})
    return 0


if __name__ == "__main__":
    process.run(main)
