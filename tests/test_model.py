import importlib
import inspect
import json
import math
import pathlib
import re

import keras
import numpy as np
import pytest
import tiny
from scripts import process

import mixnet_tf
from mixnet_tf import applications, build_model
from mixnet_tf.networks import VARIANTS, BatchNormalization, Dropout, SqueezeExcite
from mixnet_tf.optimizers import LearningRate, RMSProp

# (trainable, all); the paper's S is said to have 4.1M, M 5.0M, L 7.3M.
PARAMETERS = {
    "mixnet-s": (4_134_606, 4_166_798),
    "mixnet-m": (5_014_382, 5_056_094),
    "mixnet-l": (7_329_252, 7_383_524),
}
CONSTRUCTORS = {"mixnet-s": mixnet_tf.MixNetS, "mixnet-m": mixnet_tf.MixNetM, "mixnet-l": mixnet_tf.MixNetL}
OWN = ["r1_k3_a1_p1_s11_e1_i8_o8", "r2_k3.5_a1.1_p1_s22_e3_i8_o12_se0.5_sw"]


@pytest.fixture(scope="module")
def tiny_model():
    model = tiny.build_small(classifier_activation="softmax")
    tiny.randomise(model)
    return model


def test_every_variant_has_pinned_counts_and_a_constructor():
    assert set(PARAMETERS) == set(CONSTRUCTORS) == set(tiny.VARIANTS)


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_the_parameters_are_as_many_as_the_references(model_name):
    model = tiny.released(model_name)
    trainable, total = PARAMETERS[model_name]
    assert sum(math.prod(w.shape) for w in model.trainable_weights) == trainable
    assert model.count_params() == total


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_a_constructor_is_build_model_of_its_variant(model_name, monkeypatch):
    stages, params = VARIANTS[model_name]
    monkeypatch.setitem(VARIANTS, model_name, (stages[:3], params))
    overrides = {"depth_multiplier": 0.13, "depth_divisor": 1, "feature_size": 8, "dropout_rate": 0.5}
    arguments = {"classes": 4, "classifier_activation": None, "include_preprocessing": False}
    ours = CONSTRUCTORS[model_name](override_params=overrides, **arguments)
    same = build_model(model_name, overrides, **arguments)
    assert CONSTRUCTORS[model_name].__name__ == f"MixNet{model_name[-1].upper()}"
    assert ours.name == model_name

    def described(model):
        config = model.get_config()["layers"]
        for layer in config:  # Keras draws a random seed for each initializer without one
            layer["config"] = {k: v for k, v in layer["config"].items() if not k.startswith("seed")}
        return json.dumps(config)

    assert described(ours) == described(same)


@pytest.mark.parametrize("model_name, dropout", [("mixnet-s", 0.2), ("mixnet-m", 0.25), ("mixnet-l", 0.25)])
def test_dropout_and_batch_norm_take_the_builders_settings(model_name, dropout):
    model = tiny.released(model_name)
    assert [layer.rate for layer in model.layers if isinstance(layer, Dropout)] == [dropout]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(type(n), n.momentum, n.epsilon) for n in norms} == {(BatchNormalization, 0.99, 1e-3)}


def test_initial_weights_are_drawn_as_the_references():
    model = mixnet_tf.MixNetS()
    pinned = 0
    for layer in model.layers:
        parts = [layer.reduce, layer.expand] if isinstance(layer, SqueezeExcite) else [layer]
        for weight in [w for part in parts for w in part.weights]:
            value = weight.numpy()
            if isinstance(layer, keras.layers.Dense) and value.ndim == 2:
                bound = 1 / math.sqrt(1000)
                assert 0.999 * bound < np.abs(value).max() <= bound  # uniform
                expected = bound / math.sqrt(3)
            elif value.ndim == 4:
                expected = math.sqrt(2 / math.prod((*value.shape[:2], value.shape[3])))
                if value.size > 10_000:
                    assert np.abs(value).max() > 3 * expected  # truncation would stop at 2.3
            else:
                assert (value == (1 if weight.name in ("gamma", "moving_variance") else 0)).all()
                continue
            # The deviation of n normal values is itself off by 1 / sqrt(2 n): five times that.
            assert abs(value.std() / expected - 1) < 5 / math.sqrt(2 * value.size), weight.path
            pinned += 1
    assert pinned == sum(len(row["shape"]) > 1 for row in tiny.listing("mixnet-s")["variables"])


def test_groups_of_equal_shape_start_from_different_values():
    model = tiny.build_small(blocks_args=["r1_k3.3_a1_p1.1_s11_e2_i8_o8"])
    kernels = [w.numpy() for w in model.weights if len(w.shape) == 4 and w.numpy().size > 8]
    assert len({kernel.shape for kernel in kernels}) <= len(kernels) - 2
    for i, first in enumerate(kernels):
        assert not any(first.shape == other.shape and (first == other).all() for other in kernels[i + 1 :])


def test_the_model_normalizes_its_input_once():
    with_stage, without = (tiny.build_small(include_preprocessing=flag) for flag in (True, False))
    tiny.randomise(with_stage)
    without.set_weights(with_stage.get_weights())
    x = tiny.images(2, 33, 33, 3)
    # The same sums in the same order, but fused differently.
    np.testing.assert_allclose(with_stage(x), without(mixnet_tf.preprocess_input(x)), rtol=1e-5)
    assert np.abs(with_stage(x).numpy() - without(x).numpy()).max() > 1e-2


def test_preprocess_input_takes_integers_and_returns_float32():
    x = np.array([[[[0, 128, 255]]]], "uint8")
    expected = (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    ours = mixnet_tf.preprocess_input(x)
    assert keras.backend.standardize_dtype(ours.dtype) == "float32"
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 1), (64, 20)])
def test_a_model_without_input_shape_takes_images_of_any_size(tiny_model, size):
    probabilities = tiny_model(tiny.images(2, *size, 3)).numpy()
    assert tiny_model.input_shape == (None, None, None, 3)
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_an_input_shape_does_not_change_the_answer(tiny_model):
    fixed = tiny.build_small(classifier_activation="softmax", input_shape=(40, 24, 3))
    fixed.set_weights(tiny_model.get_weights())
    x = tiny.images(1, 40, 24, 3)
    np.testing.assert_array_equal(fixed(x), tiny_model(x))


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_without_the_top_the_heads_convolution_is_the_output(pooling):
    headless = tiny.build_small(include_top=False, pooling=pooling)
    tiny.randomise(headless)
    features = headless(tiny.images(2, 64, 64, 3)).numpy()
    unpooled = keras.Model(headless.input, headless.get_layer("head_activation").output)
    whole = unpooled(tiny.images(2, 64, 64, 3)).numpy()
    assert whole.shape == (2, 2, 2, 24) and (whole >= 0).all() and whole.max() > 0  # ReLU
    expected = {None: lambda v: v, "avg": lambda v: v.mean((1, 2)), "max": lambda v: v.max((1, 2))}[pooling](whole)
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    assert not any("dense" in layer.name or "dropout" in layer.name for layer in headless.layers)


def test_the_top_is_pooling_then_dropout_then_dense(tiny_model):
    tail = [type(layer).__name__ for layer in tiny_model.layers[-5:]]
    assert tail == ["Activation", "GlobalAveragePooling2D", "Dropout", "Dense", "Activation"]


def test_training_mode_drops_and_uses_batch_statistics():
    model = tiny.build_small(input_shape=(32, 32, 3), override_params={"dropout_rate": 0.5})
    tiny.randomise(model)
    x = tiny.images(4, 32, 32, 3)
    before = model(x).numpy()
    assert (model(x, training=True).numpy() != before).any()
    assert (model(x).numpy() != before).any()  # the moving statistics have moved


def test_the_model_builds_on_a_tensor_of_another_model(tiny_model):
    raw = keras.Input((48, 48, 3))
    flipped = keras.layers.Lambda(lambda v: v[:, :, ::-1])(raw)
    model = tiny.build_small(input_tensor=flipped, classifier_activation="softmax")
    model.set_weights(tiny_model.get_weights())
    x = tiny.images(2, 48, 48, 3)
    assert model.inputs[0] is raw
    np.testing.assert_array_equal(model(x), tiny_model(np.ascontiguousarray(x[:, :, ::-1])))


def test_own_block_strings_build_a_network_with_the_stem_their_first_block_takes():
    model = build_model(blocks_args=OWN, override_params={"feature_size": 16}, classes=3, name="own")
    assert model.name == "own"
    assert model.get_layer("stem_conv").filters == 8
    shapes = {name: tensor.shape[-1] for name, tensor in mixnet_tf.endpoints(model).items()}
    assert [shapes[f"block_{n}"] for n in range(3)] == [8, 12, 12]
    assert "block_3" not in shapes
    assert model(tiny.images(1, 32, 32, 3)).shape == (1, 3)


def test_decoded_blocks_build_the_same_network_as_their_strings():
    decoded = build_model(blocks_args=mixnet_tf.MixnetDecoder.decode(OWN), classes=3)
    written = build_model(blocks_args=OWN, classes=3)
    assert [w.path for w in decoded.weights] == [w.path for w in written.weights]
    assert [w.shape for w in decoded.weights] == [w.shape for w in written.weights]


def test_a_depth_multiplier_of_ones_own_scales_the_stem_and_the_blocks():
    model = build_model(blocks_args=OWN, override_params={"depth_multiplier": 2.0}, classes=3)
    assert model.get_layer("stem_conv").filters == 16
    assert mixnet_tf.endpoints(model)["block_2"].shape[-1] == 24


def test_the_activation_override_reaches_the_blocks_marked_sw_alone():
    model = build_model(blocks_args=OWN, override_params={"activation": "mish"}, classes=3)
    used = {
        layer.name: keras.activations.serialize(layer.activation)
        for layer in model.layers
        if isinstance(layer, keras.layers.Activation)
    }
    assert used.pop("predictions") == "softmax"
    assert {name for name, activation in used.items() if activation == "mish"} == {
        name for name in used if name.startswith(("block_1", "block_2"))
    }
    assert used["stem_activation"] == used["head_activation"] == used["block_0_mixconv_activation"] == "relu"
    assert model.get_layer("block_1_se").activation == "mish"


def test_an_activation_that_keras_does_not_know_is_named():
    with pytest.raises(ValueError, match="expected the name of a Keras activation, such as 'mish'; got 'swoosh'"):
        build_model(blocks_args=OWN, override_params={"activation": "swoosh"})


def test_another_backend_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(
        ImportError, match="needs Keras' TensorFlow backend, but it is 'jax'; set KERAS_BACKEND=tensorf"
    ):
        importlib.reload(mixnet_tf)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "openvino", "no_such_backend"])
def test_another_backend_that_is_not_installed_is_the_same_error_in_one_line_of_a_command(backend):
    done = process("train.py", KERAS_BACKEND=backend)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(
        f"error: mixnet_tf needs Keras' TensorFlow backend, but it is {backend!r}; set KERAS_BACK"
    )


@pytest.fixture(scope="module")
def bfloat16_model():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny.build_small(classifier_activation="softmax")
    finally:
        keras.config.set_dtype_policy("float32")
    tiny.randomise(model)
    return model


def test_under_mixed_bfloat16_weights_and_probabilities_are_float32(bfloat16_model, tiny_model):
    x = tiny.images(2, 48, 48, 3)
    assert {w.dtype for w in bfloat16_model.weights} == {"float32"}
    assert bfloat16_model.get_layer("block_3_mixconv").compute_dtype == "bfloat16"
    ours = bfloat16_model(x)
    assert ours.dtype == "float32"
    difference = np.abs(ours.numpy() - tiny_model(x).numpy()).max()
    assert 0 < difference < 0.05  # bfloat16 keeps 8 bits; through 50 layers a few per cent of a probability
    np.testing.assert_allclose(ours.numpy().sum(1), 1, rtol=1e-6)  # the softmax itself is not in bfloat16


@pytest.fixture(scope="module")
def fresh(tiny_model, bfloat16_model, tmp_path_factory):
    """The output of `fresh_process.py`, and the saved models that it opened, by file."""
    folder = tmp_path_factory.mktemp("fresh")
    np.save(folder / "images.npy", tiny.images(2, 40, 40, 3))
    compiled = keras.Model(tiny_model.input, tiny_model.output)
    rate = LearningRate("exponential", 0.1, 0, 100.0, 0.97, None)
    compiled.compile(RMSProp(rate, momentum=0.8), "sparse_categorical_crossentropy")
    compiled.optimizer.build(compiled.trainable_variables)
    network = tiny.build_small(include_top=False, input_shape=(40, 40, 3))
    detector = mixnet_tf.SSDLite(network, 3, (40, 40, 3))
    models = {"bfloat16": bfloat16_model, "compiled": compiled, "detector": detector}
    models = {f"{name}.keras": model for name, model in models.items()}
    for name, model in models.items():
        model.save(folder / name)
    arguments = ("images.npy", "out.json", *models)
    done = process("tests/fresh_process.py", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out.json").read_text()), models


@pytest.mark.soak
def test_saved_models_answer_bit_for_bit_in_a_fresh_process(fresh):
    found, models = fresh
    for name, model in models.items():
        outputs, answers = model(tiny.images(2, 40, 40, 3)), found["answers"][name]
        for key in outputs if isinstance(outputs, dict) else [...]:  # a detector's boxes and logits
            answer, output = (answers, outputs) if key is ... else (answers[key], outputs[key])
            np.testing.assert_array_equal(np.array(answer, "float32"), output.numpy())


def test_a_model_saved_with_the_recipes_optimizer_opens_after_the_import_alone(fresh):
    found, models = fresh
    assert found["optimizers"]["bfloat16.keras"] is None
    optimizer = keras.saving.deserialize_keras_object(found["optimizers"]["compiled.keras"])
    assert type(optimizer) is RMSProp and type(optimizer._learning_rate) is LearningRate
    assert optimizer.get_config() == models["compiled.keras"].optimizer.get_config()


def test_a_user_of_the_library_keeps_its_environment(fresh):
    assert fresh[0]["environment_is_kept"]


def test_the_import_brings_networks_and_models_alone(fresh):
    modules = "applications class_names errors files imagenet models networks optimizers settings"
    assert fresh[0]["modules"] == [f"mixnet_tf.{name}" for name in modules.split()]
    assert set(mixnet_tf.__all__) < set(fresh[0]["names"])  # an editor completes those of the others, too
    assert mixnet_tf.training.Trainer is importlib.import_module("mixnet_tf.training").Trainer
    with pytest.raises(AttributeError, match="module 'mixnet_tf' has no attribute 'MixNetXXL'"):
        _ = mixnet_tf.MixNetXXL


@pytest.mark.parametrize("fixture", ["tiny_model", "bfloat16_model"])
def test_the_config_is_plain_json_and_builds_the_same_model(fixture, request):
    model = request.getfixturevalue(fixture)
    text = json.dumps(model.get_config())
    assert "__lambda__" not in text and "py/" not in text
    again = keras.Model.from_config(json.loads(text))
    again.set_weights(model.get_weights())
    x = tiny.images(2, 40, 40, 3)
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("name", ["MixNetS", "MixNetM", "MixNetL", "MixNetXL", "MobileNetV1", "MobileNetV2"])
def test_a_networks_function_shows_passes_and_documents_the_arguments_of_build_model(name, monkeypatch):
    function, received = getattr(mixnet_tf, name), {}
    shown, all_of_them = (dict(inspect.signature(f).parameters) for f in (function, build_model))
    for argument in ("model_name", "blocks_args", *([] if "Mobile" in name else ["kernel_size"])):
        del all_of_them[argument]
    assert {key: (value.default, value.annotation) for key, value in shown.items()} == {
        key: (value.default, value.annotation) for key, value in all_of_them.items()
    }
    monkeypatch.setattr(applications, "build_model", lambda model_name, **given: received.update(given) or model_name)
    given = {argument: object() for argument in shown}
    assert function(**given) in mixnet_tf.list_models() and received == given
    documented = re.findall(r"^ {8}(\w+): ", function.__doc__.partition("    Args:\n")[2], re.MULTILINE)
    assert documented == list(shown) and "None for logits" in function.__doc__


def test_every_public_function_is_annotated():
    public = {name: getattr(mixnet_tf, name) for name in mixnet_tf.__all__}
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    assert len(functions) > 10
    for name, function in functions.items():
        signature = inspect.signature(function)
        assert signature.return_annotation is not signature.empty, name
        assert all(p.annotation is not p.empty for p in signature.parameters.values()), name
    assert (pathlib.Path(mixnet_tf.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(
    ("policy", "instead"), [("float16", "mixed_float16"), ("bfloat16", "mixed_bfloat16"), ("float64", "float32")]
)
def test_a_policy_that_a_network_cannot_compute_in_is_refused_with_the_one_to_set(policy, instead):
    before, network = keras.config.dtype_policy(), tiny.build_small(include_top=False, input_shape=(64, 64, 3))
    keras.config.set_dtype_policy(policy)
    try:
        for build in (tiny.build_small, lambda: mixnet_tf.SSDLite(network, 3, (64, 64, 3))):
            with pytest.raises(ValueError, match=f"{policy}.*set_dtype_policy\\('{instead}'\\)"):
                build()
    finally:
        keras.config.set_dtype_policy(before)
