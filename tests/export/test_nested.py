"""Models of one's own around a MixNet, as Keras' guides build them: what of them is exported, and how."""

import functools
import inspect
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from tiny_run import BLOCKS

import mixnet_tf
from mixnet_tf.export import ExportOptions, export_model, runtime
from mixnet_tf.export.activations import Activations
from mixnet_tf.export.convert import ConversionError, to_tflite
from mixnet_tf.export.rewrite import InferenceFunction
from mixnet_tf.export.selective import part_names
from mixnet_tf.export.target import target_model
from mixnet_tf.export.unconvertible import unconvertible_layers

SIZE = 24  # pixels


@functools.cache  # Keras' models can share a network
def base(**kwargs):
    """A network of two stages without a top, of random weights."""
    kwargs = {"include_top": False, **kwargs}
    network = mixnet_tf.build_model(
        None, {"feature_size": 16}, blocks_args=BLOCKS, input_shape=(SIZE, SIZE, 3), **kwargs
    )
    tiny.randomise(network)
    return network


def around(network, *front):
    """The model of Keras' guide to transfer learning around a network, with layers in front of it."""
    x = inputs = keras.Input((SIZE, SIZE, 3))
    for layer in front:
        x = layer(x)
    x = network(x, training=False)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x), name="own")


def saved_and_read(model, folder):
    model.save(folder / "m.keras")
    return keras.models.load_model(folder / "m.keras")


def renamed(model):
    return keras.Model(model.input, model.output, name="another")


def frozen(model):
    model.trainable = False
    return model


def cloned(model):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def inside_another(model):
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, keras.layers.Reshape((3,))(model(inputs)))


def inside_a_sequential_one(model):
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), inside_another(model)])


WAYS = {
    "as built": lambda model, folder: model,
    "read from a file": saved_and_read,
    "cloned": lambda model, folder: cloned(model),
    "renamed": lambda model, folder: renamed(model),
    "frozen": lambda model, folder: frozen(model),
    "two deep": lambda model, folder: inside_another(model),
    "three deep, from a file": lambda model, folder: saved_and_read(inside_a_sequential_one(model), folder),
}


def traced(model, images):
    """A model's inference graph, and its answers."""
    function = tf.function(InferenceFunction(model), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec((None, SIZE, SIZE, 3))).graph
    return {op.type for op in graph.get_operations()}, function(images).numpy()


@pytest.mark.parametrize("way", WAYS)
def test_a_network_called_inside_a_functional_model_is_rewritten(way, tmp_path):
    model = WAYS[way](around(base()), tmp_path)
    images = tiny.images(2, SIZE, SIZE, 3)
    ops, answers = traced(model, images)
    np.testing.assert_allclose(answers, model(images), rtol=0, atol=1e-5)
    assert not [op for op in ops if op.startswith("FusedBatchNorm")]
    assert part_names(model) == ["stem", "block_0", "block_1", "block_2", "head"]


def test_units_and_scores_reach_into_a_network_called_inside_a_functional_model():
    network = base()
    model, images = inside_another(around(network)), tiny.images(3, SIZE, SIZE, 3)
    inside, outside = Activations(network, images), Activations(model, images)
    np.testing.assert_allclose(outside.scores(), inside.scores(), rtol=1e-5)
    units = outside.units()
    assert len(units) == len(inside.units()) > 3
    answers = tf.function(InferenceFunction(model, units=units), autograph=False)(images)
    np.testing.assert_allclose(answers, model(images), rtol=0, atol=1e-5)


def test_a_network_with_its_top_or_several_outputs_may_lie_inside():
    images = tiny.images(2, SIZE, SIZE, 3)
    inputs = keras.Input((SIZE, SIZE, 3))
    whole = keras.Model(inputs, base(include_top=True, classes=3)(inputs))
    np.testing.assert_allclose(traced(whole, images)[1], whole(images), rtol=0, atol=1e-5)
    maps = mixnet_tf.features_model(base(), ["block_0", "block_2"])(inputs)
    pooled = [keras.layers.GlobalAveragePooling2D()(maps[name]) for name in ("block_2", "block_0")]
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.Concatenate()(pooled)))
    np.testing.assert_allclose(traced(model, images)[1], model(images), rtol=0, atol=1e-5)


def test_a_layer_that_was_called_in_another_model_before_is_read_where_it_is_called_here():
    network, dense = base(), keras.layers.Dense(3, activation="softmax")
    inputs = keras.Input((SIZE, SIZE, 3))
    keras.Model(inputs, dense(keras.layers.GlobalMaxPooling2D()(network(inputs))))
    x = keras.layers.GlobalAveragePooling2D()(network(inputs))
    model, images = keras.Model(inputs, dense(x)), tiny.images(2, SIZE, SIZE, 3)
    np.testing.assert_allclose(traced(model, images)[1], model(images), rtol=0, atol=1e-5)


def test_a_network_that_is_used_twice_is_an_error_that_names_it():
    network, inputs = base(name="shared"), keras.Input((SIZE, SIZE, 3))
    flipped = keras.layers.Lambda(lambda x: x[:, ::-1])(inputs)
    both = keras.layers.Concatenate()([network(inputs), network(flipped)])
    twice = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(both)))
    with pytest.raises(ValueError, match="'shared' is used more than once"):
        traced(twice, tiny.images(1, SIZE, SIZE, 3))


def test_a_network_in_two_models_inside_the_model_is_used_twice():
    network, inputs = base(), keras.Input((SIZE, SIZE, 3))
    inner = [keras.Model(inputs, network(inputs), name=name) for name in ("one", "two")]
    sums = keras.layers.Add()([model(inputs) for model in inner])
    twice = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(sums)))
    with pytest.raises(ValueError, match="used more than once"):
        traced(twice, tiny.images(1, SIZE, SIZE, 3))


def test_a_mixed_precision_network_inside_is_rebuilt_in_float32_with_its_weights():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = around(base.__wrapped__())
    finally:
        keras.config.set_dtype_policy("float32")
    for model in (mixed, inside_another(mixed)):
        rebuilt = target_model(model)
        layers = [*rebuilt.layers, *(inner for layer in rebuilt.layers for inner in getattr(layer, "layers", ()))]
        assert {layer.compute_dtype for layer in layers} == {"float32"}
        for ours, theirs in zip(rebuilt.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        images = tiny.images(2, SIZE, SIZE, 3)
        np.testing.assert_allclose(traced(rebuilt, images)[1], rebuilt(images), rtol=0, atol=1e-5)


# Keras layers that are random, with the arguments that they cannot do without.
RANDOM = {
    "RandomBrightness": {"factor": 0.2},
    "RandomColorDegeneration": {"factor": 0.2},
    "RandomColorJitter": {"brightness_factor": 0.2, "hue_factor": 0.2},
    "RandomContrast": {"factor": 0.2},
    "RandomCrop": {"height": SIZE, "width": SIZE},
    "RandomElasticTransform": {},
    "RandomErasing": {},
    "RandomFlip": {},
    "RandomGaussianBlur": {},
    "RandomGrayscale": {},
    "RandomHue": {"factor": 0.2},
    "RandomInvert": {},
    "RandomPerspective": {},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.2},
    "RandomSaturation": {"factor": 0.2},
    "RandomSharpness": {"factor": 0.2},
    "RandomShear": {},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomZoom": {"height_factor": 0.2},
    "GaussianNoise": {"stddev": 1.0},
    "GaussianDropout": {"rate": 0.2},
    "AlphaDropout": {"rate": 0.2},
    "SpatialDropout2D": {"rate": 0.2},
    "MixUp": {},
    "CutMix": {},
    "AugMix": {},
    "RandAugment": {},
}


@pytest.mark.parametrize("name", RANDOM)
def test_keras_augmentation_in_front_is_left_out_of_the_inference_graph(name):
    if not hasattr(keras.layers, name):
        pytest.skip(f"This Keras has no {name}.")
    layer = getattr(keras.layers, name)(**RANDOM[name], name="random")
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(layer(inputs))
    model, images = keras.Model(inputs, x), tiny.images(2, SIZE, SIZE, 3)
    function = InferenceFunction(model)
    assert "random" not in function.foreign
    ops, answers = traced(model, images)
    assert ops <= {"Placeholder", "Const", "Mean", "Identity", "NoOp"}, ops
    np.testing.assert_allclose(answers, model(images, training=False), rtol=1e-5)


def test_every_random_layer_of_keras_is_tried():
    names = {name for name, found in vars(keras.layers).items() if name.startswith("Random") and inspect.isclass(found)}
    assert names <= set(RANDOM)


def test_a_layer_that_is_always_in_training_mode_is_exported_as_predict_computes_it():
    x = inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.RandomContrast(0.5)(x, training=True)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    images = tiny.images(2, SIZE, SIZE, 3)
    np.testing.assert_allclose(traced(model, images)[1], model.predict(images, verbose=0), rtol=1e-5)


def files(model, folder, *formats, **options):
    """The rows of the report on an export verified and calibrated on random images."""
    images = tiny.images(12, SIZE, SIZE, 3)
    options = ExportOptions(formats=formats, latency_runs=0, **options)
    return export_model(model, folder, images, calibration_images=images, options=options)["files"]


@pytest.mark.parametrize(
    "formats",
    [
        ("fp32", "int8", "saved_model"),  # each is of another graph
        pytest.param(("fp32", "fp16", "dynamic", "int8", "int8_full", "saved_model"), marks=pytest.mark.soak),
    ],
    ids=["each graph", "each format"],
)
def test_the_model_of_keras_guide_is_exported_in_every_format(formats, tmp_path, one_calibration):
    model = around(base(), keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1))
    images = tiny.images(12, SIZE, SIZE, 3)
    rows = {row["format"]: row for row in files(model, tmp_path, *formats)}
    assert all(row["written"] and not row["failures"] for row in rows.values())
    content = (tmp_path / rows["fp32"]["file"]).read_bytes()
    np.testing.assert_allclose(runtime.predict(content, images), model.predict(images, verbose=0), rtol=0, atol=1e-5)
    assert rows["fp32"]["delegate_partitions"] == 1


@keras.saving.register_keras_serializable("mixnet_tf_tests")
class Doubled(keras.layers.Layer):
    """A custom layer of ops that TFLite has."""

    def call(self, inputs):
        return 2.0 * tf.abs(inputs)


@keras.saving.register_keras_serializable("mixnet_tf_tests")
class Counted(keras.layers.Layer):
    """A custom layer of an op that TFLite lacks."""

    def call(self, inputs):
        flat = tf.reshape(tf.cast(inputs, tf.int32), (-1,))
        return inputs + tf.reduce_max(tf.raw_ops.Bincount(arr=flat, size=3, weights=tf.constant([], tf.float32)))


@pytest.mark.parametrize("formats", [("fp32",), ("int8",)])
def test_a_layer_that_cannot_be_converted_is_named(formats, tmp_path):
    model = around(base(), Doubled(name="fine"), Counted(name="foul"))
    [row] = files(model, tmp_path, *formats)
    [failure] = row["failures"]
    assert not row["written"] and "'foul'" in failure and "Bincount" in failure
    assert "fine" not in failure and "dense" not in failure


def test_a_layer_inside_another_model_that_cannot_be_converted_is_named(tmp_path):
    [row] = files(inside_another(around(base(), Counted(name="foul"))), tmp_path, "fp32")
    assert "'foul'" in row["failures"][0]


L = keras.layers
TWICE = 2 * SIZE
# A layer in front for each row of the table in docs/TRANSFER.md, by the row's beginning, and the size of its images.
ROWS = {
    "| `Rescaling` |": [(L.Rescaling(1 / 127.5, -1), SIZE)],
    "| `Normalization` |": [(L.Normalization(mean=[120.0, 115.0, 104.0], variance=[3000.0] * 3), SIZE)],
    "| `Resizing`, `bilinear` |": [(L.Resizing(SIZE, SIZE), TWICE)],
    "| `Resizing`, `nearest` |": [(L.Resizing(SIZE, SIZE, interpolation="nearest"), TWICE)],
    "| `Resizing`, `bicubic`, `lanczos3`, `lanczos5` or `area` |": [
        (L.Resizing(SIZE, SIZE, interpolation=name), TWICE) for name in ("bicubic", "lanczos3", "lanczos5", "area")
    ],
    "| `CenterCrop` |": [(L.CenterCrop(SIZE, SIZE), TWICE)],
    "| `Lambda` |": [(L.Lambda(lambda x: x[:, ::-1] + 1.0), SIZE)],
    "| a custom layer |": [(Doubled(), SIZE)],
    "| a layer with an op that TFLite lacks |": [(Counted(), SIZE)],
}
OPS = {"| `Lambda` |": {"STRIDED_SLICE", "ADD"}, "| a custom layer |": {"ABS", "MUL"}}  # of the functions above


def table():
    """The lines of the table in docs/TRANSFER.md."""
    document = (pathlib.Path(__file__).parents[2] / "docs" / "TRANSFER.md").read_text()
    return document.split("| in front of the network |")[1].split("\n\n")[0].splitlines()[2:]


def test_every_row_of_the_table_is_tried():
    assert [line for line in table() if not line.startswith(tuple(ROWS))] == [] and len(table()) == len(ROWS)


@pytest.mark.parametrize("converts", [False, pytest.param(True, marks=pytest.mark.soak)])  # the network, too
@pytest.mark.parametrize(("row", "layer", "size"), [(row, *case) for row, cases in ROWS.items() for case in cases])
def test_a_layer_in_front_becomes_what_the_table_says(row, layer, size, converts):
    [line] = [line for line in table() if line.startswith(row)]
    inputs = keras.Input((size, size, 3))
    alone = keras.Model(inputs, L.GlobalAveragePooling2D()(layer(inputs)))
    result = line.split("|")[2]
    if "error" in result:
        with pytest.raises(ConversionError):
            to_tflite(InferenceFunction(alone), size)
        assert unconvertible_layers(alone, "fp32") == [layer.name]
        return
    content = to_tflite(InferenceFunction(alone), size)
    ops, _, flex = runtime.operations(content)
    expected = OPS.get(row) or set(re.findall("[A-Z0-9_]{3,}", result))
    assert set(ops) - {"MEAN"} == expected and flex == 0

    x = base(include_preprocessing="include_preprocessing=False" not in line)(layer(inputs), training=False)
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x)))
    images = tiny.images(3, size, size, 3)
    function = InferenceFunction(model)
    if converts:
        answers = runtime.predict(to_tflite(function, size), images)
    else:
        answers = tf.function(function, autograph=False)(images)
    for found, expected in (
        (runtime.predict(content, images), alone(images).numpy()),
        (answers, model(images).numpy()),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


@keras.saving.register_keras_serializable("test_nested")
class _Augmentation(keras.layers.Layer):
    """A random layer inside one of one's own, which leaves it to Keras to tell what is computed."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.contrast = keras.layers.RandomContrast(0.5, seed=0)

    def call(self, inputs):
        return self.contrast(inputs)


def test_what_lies_inside_a_layer_of_ones_own_is_in_inference_whatever_the_layers_name():
    network, images = base(), tiny.images(2, SIZE, SIZE, 3)
    model = around(network, *(_Augmentation(name=f"{prefix}augmentation") for prefix in ("", "_", "__")))
    np.testing.assert_allclose(traced(model, images)[1], model.predict(images, verbose=0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(Activations(model, images).scores(), Activations(network, images).scores(), rtol=1e-5)
    assert unconvertible_layers(model, "fp32") == []
