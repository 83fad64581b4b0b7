"""A classifier of digits with mixed kernels of every size, trained at once, and its exported files."""

import keras
import numpy as np
import pytest
import tiny

from mixnet_tf import build_model
from mixnet_tf.data import eval_batches, load_split
from mixnet_tf.export import ExportOptions, calibrate, export_model
from mixnet_tf.export.images import Images

SIZE = 32  # pixels
BLOCKS = [
    "r1_k3_a1_p1_s11_e1_i16_o16",
    "r1_k3.5.7_a1.1_p1.1_s22_e3_i16_o24",
    "r1_k3.5.7.9.11_a1_p1_s22_e3_i24_o32_se0.5_sw",
    "r1_k5.9_a1.1_p1.1_s11_e3_i32_o32_se0.25_sw",
]
FORMATS = ("fp32", "fp16", "dynamic", "int8", "int8_full", "saved_model")


def digits_images(data_dir):
    """The images of digits by whether they are those to train with."""
    found = {}
    for train in (True, False):
        split = load_split("digits", data_dir, train)
        images, labels, _ = (
            np.concatenate(values) for values in zip(*eval_batches(split, SIZE, 500, False), strict=True)
        )
        number = split.num_examples  # behind them is padding
        found[train] = Images(images[:number], labels[:number], split.label_names, "digits")
    return found


def train(digits):
    """Random features with statistics of the data, and a classifier trained on them in closed form."""
    keras.utils.set_random_seed(0)
    model = build_model(blocks_args=BLOCKS, classes=10, input_shape=(SIZE, SIZE, 3), name="mixnet-t")
    images, labels = digits[True].images, digits[True].labels

    def assign(layer, maps):
        layer.moving_mean.assign(maps.mean((0, 1, 2)))
        layer.moving_variance.assign(maps.var((0, 1, 2)))

    tiny.normalize(model, images[:128], assign)
    dense = model.get_layer("head_dense")
    features = keras.Model(model.input, dense.input).predict(images, batch_size=64, verbose=0)
    padded = np.concatenate([features, np.ones((len(features), 1))], -1)
    squares = padded.T @ padded
    ridge = squares + 1e-3 * np.trace(squares) / len(squares) * np.eye(len(squares))  # weights that amplify no noise
    weights = np.linalg.solve(ridge, padded.T @ (5.0 * np.eye(10)[labels]))
    dense.kernel.assign(weights[:-1])
    dense.bias.assign(weights[-1])
    return model


def export(trained, digits, folder):
    """(folder, report) of every format, verified on 120 of the evaluation's images; a tenth of 100 never calibrates."""
    shown = digits[False]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "FRACTIONS", (0.9,))
        patch.setattr(calibrate, "_NEAR", 1.0)
        result = export_model(
            trained,
            str(folder),
            shown.images[:120],
            shown.labels[:120],
            calibration_images=digits[True].images[:100],
            label_names=shown.label_names,
            options=ExportOptions(formats=FORMATS, crop=False, author="An author", latency_runs=0),
        )
    return folder, result


def row(exported, name):
    return next(found for found in exported[1]["files"] if found["format"] == name)
