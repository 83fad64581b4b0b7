import keras
import numpy as np
import pytest
import tiny

import mixnet_tf
from mixnet_tf.networks.endpoints import block_names, parts

# Multiply-adds at 224 px of the convolutions and the dense layer, in millions.
MULTIPLY_ADDS = {"mixnet-s": 239.2, "mixnet-m": 339.2, "mixnet-l": 555.3}
REDUCTIONS = {
    "mixnet-s": [16, 24, 40, 120, 200],
    "mixnet-m": [24, 32, 40, 120, 200],
    "mixnet-l": [32, 40, 56, 160, 264],
}


@pytest.fixture(scope="module")
def tiny_model():
    model = tiny.build_small(include_preprocessing=False)
    tiny.randomise(model)
    return model


def test_every_variant_has_pinned_figures():
    assert set(MULTIPLY_ADDS) == set(REDUCTIONS) == set(tiny.VARIANTS)


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_the_endpoints_have_the_references_names_and_shapes(model_name):
    ours = {name: list(tensor.shape[1:]) for name, tensor in mixnet_tf.endpoints(tiny.released(model_name)).items()}
    added = {name for name in ours if name.endswith("/expand")}
    assert added == {f"{name}/expand" for name in block_names(tiny.released(model_name))}
    reference = {name: shape[1:] for name, shape in tiny.listing(model_name)["endpoints"].items()}
    assert {name: shape for name, shape in ours.items() if name not in added} == reference


def test_the_expanded_maps_are_what_the_mixed_convolution_takes(tiny_model):
    found = mixnet_tf.endpoints(tiny_model)
    assert found["block_0/expand"] is found["stem"]  # the first block does not expand
    for name in block_names(tiny_model)[1:]:
        assert found[f"{name}/expand"] is tiny_model.get_layer(f"{name}_expand_activation").output


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_the_features_are_the_five_reductions_at_halving_sizes(model_name):
    features = mixnet_tf.features_model(tiny.released(model_name)).compute_output_shape((None, 224, 224, 3))
    sizes = zip((112, 56, 28, 14, 7), REDUCTIONS[model_name], strict=True)
    assert features == {f"reduction_{i}": (None, s, s, c) for i, (s, c) in enumerate(sizes, 1)}


def test_the_expansion_output_is_what_the_projection_takes(tiny_model):
    names = block_names(tiny_model)
    wanted = ["stem", *names, *(f"{name}/expansion_output" for name in names)]
    found = mixnet_tf.features_model(tiny_model, wanted)(tiny.images(2, 40, 40, 3) / 255)
    for previous, name in zip(["stem", *names[:-1]], names, strict=True):
        project, norm = (tiny_model.get_layer(f"{name}_project_{part}") for part in ("conv", "bn"))
        projected = norm(project(found[f"{name}/expansion_output"]))
        residual = any(layer.name == f"{name}_add" for layer in tiny_model.layers)
        expected = projected + found[previous] if residual else projected
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5)


def test_the_head_endpoint_is_logits_whatever_the_classifier_ends_in(tiny_model):
    soft = tiny.build_small(include_preprocessing=False, classifier_activation="softmax")
    soft.set_weights(tiny_model.get_weights())
    x = tiny.images(2, 40, 40, 3) / 255
    logits = mixnet_tf.features_model(soft, ["head"])(x)["head"].numpy()
    np.testing.assert_array_equal(logits, tiny_model(x))
    assert np.abs(soft(x).numpy() - logits).max() > 1e-3


def test_a_model_without_top_has_every_endpoint_but_the_head(tiny_model):
    headless = tiny.build_small(include_top=False)
    assert set(mixnet_tf.endpoints(tiny_model)) - set(mixnet_tf.endpoints(headless)) == {"head"}
    assert set(mixnet_tf.endpoints(headless)) < set(mixnet_tf.endpoints(tiny_model))


def test_a_features_model_shares_its_weights(tiny_model):
    features = mixnet_tf.features_model(tiny_model, ["stem"])
    x = tiny.images(1, 16, 16, 3) / 255
    kernel = tiny_model.get_layer("stem_conv").kernel
    before, old = features(x)["stem"].numpy(), kernel.numpy()
    kernel.assign(old + 1)
    after = features(x)["stem"].numpy()
    kernel.assign(old)
    assert (before != after).any()


def test_the_endpoints_survive_saving(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert list(mixnet_tf.endpoints(again)) == list(mixnet_tf.endpoints(tiny_model))
    assert mixnet_tf.multiply_adds(again, 64) == mixnet_tf.multiply_adds(tiny_model, 64)


def test_a_model_built_on_top_of_a_mixnet_keeps_its_endpoints(tiny_model):
    base = tiny.build_small(include_top=False, pooling="avg")
    model = keras.Model(base.input, keras.layers.Dense(3)(base.output))
    assert set(mixnet_tf.endpoints(model)) == set(mixnet_tf.endpoints(base))


def test_every_layer_with_weights_belongs_to_a_part(tiny_model):
    in_parts = [layer for group in parts(tiny_model).values() for layer in group if layer.weights]
    assert {id(layer) for layer in in_parts} == {id(layer) for layer in tiny_model.layers if layer.weights}
    assert list(parts(tiny_model)) == ["stem", *block_names(tiny_model), "head"]


@pytest.mark.parametrize("ask", [mixnet_tf.endpoints, mixnet_tf.features_model, mixnet_tf.multiply_adds])
def test_a_model_that_is_no_mixnet_is_refused(ask):
    inputs = keras.Input((8, 8, 3))
    other = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs), name="other")
    with pytest.raises(ValueError, match="'other' is not a MixNet"):
        ask(other)


def test_an_unknown_endpoint_is_named_beside_the_known_ones(tiny_model):
    with pytest.raises(ValueError, match=r"no endpoints \['reduction_6'\]; it has \['stem', 'block_0'"):
        mixnet_tf.features_model(tiny_model, ["stem", "reduction_6"])


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_the_multiply_adds_are_those_of_the_convolutions_and_the_classifier(model_name):
    assert round(mixnet_tf.multiply_adds(tiny.released(model_name)) / 1e6, 1) == MULTIPLY_ADDS[model_name]


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_the_multiply_adds_agree_with_the_references_shapes(model_name):
    listing = tiny.listing(model_name)
    total = 0
    for row in listing["variables"]:
        name, shape = row["name"], row["shape"]
        if len(shape) < 2:
            continue
        scope = next(word for word in name.split("/") if word in ("stem", "head") or word.startswith("blocks_"))
        block = scope.replace("blocks", "block")
        if "/se/" in name or "/dense/" in name:
            size = 1
        elif scope == "head":
            size = listing["endpoints"]["global_pool"][1]
        elif scope == "stem" or "depthwise" in name or shape[3] * 2 < shape[2] or scope == "blocks_0":
            size = listing["endpoints"][block][1]
        else:
            before = listing["endpoints"][f"block_{int(scope.split('_')[1]) - 1}"]
            after = listing["endpoints"][block]
            size = before[1] if shape[3] > shape[2] else after[1]
        total += int(np.prod(shape)) * size**2
    assert mixnet_tf.multiply_adds(tiny.released(model_name)) == total


def test_the_multiply_adds_of_one_convolution_can_be_counted_by_hand():
    model = mixnet_tf.build_model(
        blocks_args=["r1_k3_a1_p1_s11_e1_i4_o4"], override_params={"feature_size": 8}, classes=5, input_shape=(9, 8, 3)
    )
    stem, depthwise, project, head, dense = 5 * 4 * 27 * 4, 5 * 4 * 9 * 4, 5 * 4 * 4 * 4, 5 * 4 * 4 * 8, 8 * 5
    assert mixnet_tf.multiply_adds(model) == stem + depthwise + project + head + dense


def test_an_image_size_of_ones_own_replaces_the_models(tiny_model):
    fixed = tiny.build_small(input_shape=(48, 48, 3))
    assert mixnet_tf.multiply_adds(fixed) == mixnet_tf.multiply_adds(tiny_model, 48)
    assert mixnet_tf.multiply_adds(fixed, 96) > 3 * mixnet_tf.multiply_adds(fixed)
