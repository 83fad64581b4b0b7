"""The recipe's pieces against TensorFlow 1's own, and figures computed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import build_small, build_tiny, released

from mixnet_tf.recipe import Recipe
from mixnet_tf.training import optim
from mixnet_tf.training.ema import moving_average_decay, update_moving_average
from mixnet_tf.training.objectives import classification
from mixnet_tf.training.optim import build_learning_rate, decayed_variables, l2_loss, smoothed_cross_entropy

_IMAGENET_STEPS_PER_EPOCH = 1281167 / 1024


@pytest.mark.parametrize(
    "step, rate",
    [(0, 0.0), (1, 1.023e-5), (6254, 0.0639898), (6255, 0.0602176), (100000, 0.0234233), (437897, 7.7283e-4)],
)
def test_imagenet_rate_at_known_steps(step, rate):
    ours = build_learning_rate(Recipe(), _IMAGENET_STEPS_PER_EPOCH)(step)
    np.testing.assert_allclose(ours, rate, rtol=2e-4)  # the known rates have four to six digits


def test_exponential_rate_is_tensorflow_1s():
    recipe = Recipe(train_batch_size=256, base_learning_rate=0.064, warmup_epochs=0.0)
    ours = build_learning_rate(recipe, 1.7)
    for step in range(0, 200):
        theirs = tf.compat.v1.train.exponential_decay(0.064, step, 2.4 * 1.7, 0.97, staircase=True)
        np.testing.assert_allclose(ours(step), theirs(), rtol=1e-6)


def test_cosine_goes_from_the_peak_at_the_end_of_warm_up_to_zero():
    recipe = Recipe(train_batch_size=256, base_learning_rate=0.5, warmup_epochs=2.0, learning_rate_schedule="cosine")
    rate = build_learning_rate(recipe, 10.0, total_steps=120)
    np.testing.assert_allclose([rate(s) for s in (0, 10, 20, 70, 120, 130)], [0, 0.25, 0.5, 0.25, 0, 0], atol=1e-6)


def test_constant_rate_stays_at_the_peak_after_warm_up():
    recipe = Recipe(train_batch_size=512, base_learning_rate=0.5, warmup_epochs=1.0, learning_rate_schedule="constant")
    rate = build_learning_rate(recipe, 4.0)
    np.testing.assert_allclose([rate(s) for s in (0, 1, 4, 999)], [0, 0.25, 1, 1])


def test_schedules_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="Unknown learning_rate_schedule 'linear'"):
        build_learning_rate(Recipe(learning_rate_schedule="linear"), 1.0)
    with pytest.raises(ValueError, match="needs total_steps"):
        build_learning_rate(Recipe(learning_rate_schedule="cosine"), 1.0)


def test_rmsprop_is_tensorflow_1s_over_sixty_steps():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 3)).astype("float32")
    gradients = (rng.normal(size=(60, 5, 3)) * np.logspace(-4, 1, 60)[:, None, None]).astype("float32")
    rates = np.linspace(0, 0.1, 60).astype("float32")
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        theirs = tf.compat.v1.get_variable("w", initializer=start)
        rate, gradient = tf.compat.v1.placeholder("float32", ()), tf.compat.v1.placeholder("float32", (5, 3))
        optimizer = tf.compat.v1.train.RMSPropOptimizer(rate, decay=0.9, momentum=0.9, epsilon=1e-3)
        update = optimizer.apply_gradients([(gradient, theirs)])
        session.run(tf.compat.v1.global_variables_initializer())
        expected = []
        for g, r in zip(gradients, rates, strict=True):
            session.run(update, {rate: r, gradient: g})
            expected.append(session.run(theirs))
    ours = keras.Variable(start)
    optimizer = optim.RMSProp(0.0)
    for step, (g, r) in enumerate(zip(gradients, rates, strict=True)):
        optimizer.learning_rate = r
        optimizer.apply([tf.constant(g)], [ours])
        np.testing.assert_allclose(ours, expected[step], rtol=2e-5, atol=1e-6)  # float32 rounding, accumulated


def test_rmsprop_mean_square_starts_at_one():
    variable = keras.Variable([0.0])
    optimizer = optim.RMSProp(1.0)
    optimizer.apply([tf.constant([2.0])], [variable])
    np.testing.assert_allclose(variable, [-2 / np.sqrt(0.9 + 0.1 * 4 + 1e-3)], rtol=1e-6)


def test_rmsprop_round_trips_through_its_config():
    config = optim.RMSProp(0.5, 0.8, 0.7, 1e-2).get_config()
    again = optim.RMSProp.from_config(config)
    assert (again.decay, again.momentum, again.epsilon) == (0.8, 0.7, 1e-2)


def test_moving_average_is_tensorflow_1s_over_sixty_steps():
    values = np.random.default_rng(1).normal(size=(61, 4)).astype("float32")
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("v", initializer=values[0])
        step = tf.compat.v1.placeholder("int64", ())
        average = tf.compat.v1.train.ExponentialMovingAverage(0.9999, num_updates=step)
        update = average.apply([variable])
        session.run(tf.compat.v1.global_variables_initializer())
        expected = []
        for n in range(1, 61):
            variable.load(values[n], session)
            session.run(update, {step: n})
            expected.append(session.run(average.average(variable)))
    ours = keras.Variable(values[0])
    for n in range(1, 61):
        update_moving_average([ours], [tf.constant(values[n])], moving_average_decay(0.9999, n))
        np.testing.assert_allclose(ours, expected[n - 1], rtol=1e-5, atol=1e-6)


def test_a_whole_number_has_no_average_and_is_copied():
    average, value = keras.Variable(3, dtype="int32"), keras.Variable(7, dtype="int32")
    update_moving_average([average], [value], moving_average_decay(0.9999, 1))
    assert int(average) == 7


def test_first_decay_is_two_elevenths_and_the_limit_holds():
    np.testing.assert_allclose(moving_average_decay(0.9999, 1), 2 / 11, rtol=1e-6)
    np.testing.assert_allclose(moving_average_decay(0.9999, 10**6), 0.9999, rtol=1e-6)


def test_l2_covers_every_trainable_but_batch_normalizations():
    model = released("mixnet-s")
    decayed = decayed_variables(model)
    assert len(decayed) == 151
    spared = {id(v) for v in model.trainable_variables} - {id(v) for v in decayed}
    assert {v.name for v in model.trainable_variables if id(v) in spared} == {"gamma", "beta"}


def test_l2_reaches_into_a_model_inside_a_model():
    inner = build_tiny(include_top=False, pooling="avg")
    outer = keras.Sequential([keras.Input((32, 32, 3)), inner, keras.layers.Dense(3)])
    assert len(decayed_variables(outer)) == len(decayed_variables(inner)) + 2


def test_l2_is_half_the_sum_of_squares():
    np.testing.assert_allclose(l2_loss([tf.constant([3.0]), tf.constant([[1.0, 2.0]])]), 7.0)


def test_smoothed_cross_entropy_is_tensorflow_1s():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(6, 10)).astype("float32") * 3, rng.integers(0, 10, 6)
    theirs = tf.compat.v1.losses.softmax_cross_entropy(np.eye(10)[labels], logits, label_smoothing=0.1)
    ours = tf.reduce_mean(smoothed_cross_entropy(tf.constant(logits), tf.constant(labels), 0.1))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_cross_entropy_of_soft_labels_is_tensorflow_1s_and_has_no_top_1_accuracy_beside_it():
    rng = np.random.default_rng(2)
    logits, parts = rng.normal(size=(6, 10)).astype("float32") * 3, rng.dirichlet(np.ones(10), 6).astype("float32")
    theirs = tf.compat.v1.losses.softmax_cross_entropy(parts, logits, label_smoothing=0.1)
    objective = classification(Recipe(mixup=0.2))
    loss, measured = objective.share(tf.constant(logits), tf.constant(parts))
    np.testing.assert_allclose(loss, theirs, rtol=1e-6)
    assert objective.names == ("cross_entropy",) and measured == (loss,)


@pytest.mark.parametrize("schedule", ["exponential", "cosine", "constant"])
def test_no_schedule_falls_below_its_minimum_after_warm_up(schedule):
    recipe = Recipe(train_batch_size=256, base_learning_rate=0.5, warmup_epochs=2.0, learning_rate_schedule=schedule)
    free, floored = (
        build_learning_rate(recipe._replace(minimum_learning_rate=minimum), 10.0, total_steps=120)
        for minimum in (0.0, 0.3)
    )
    steps = np.arange(0, 500, 5)
    expected = [float(free(step)) if step < 20 else max(float(free(step)), np.float32(0.3)) for step in steps]
    assert [float(floored(step)) for step in steps] == expected and expected[1] == 0.125
    assert (0.3 in np.float64(np.round(expected, 6))) is (schedule != "constant")


def test_a_schedule_that_an_older_version_saved_has_no_minimum():
    config = build_learning_rate(Recipe(), 10.0).get_config()
    assert config.pop("minimum") == 0
    assert float(optim.LearningRate.from_config(config)(10**6)) < 1e-9


def test_adamw_is_adam_after_a_decay_of_the_kernels_alone():
    rng = np.random.default_rng(5)
    values = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2), "gamma": rng.normal(size=4)}
    ours = {name: keras.Variable(value, dtype="float32") for name, value in values.items()}
    recipe = Recipe(optimizer="adamw", weight_decay=0.5, momentum=0.8)
    optimizer = optim.build_optimizer(recipe, 0.02, list(ours.values()))
    means, squares = ({name: np.zeros_like(value) for name, value in values.items()} for _ in range(2))
    for step in range(1, 21):
        gradients = {name: rng.normal(size=value.shape) for name, value in values.items()}
        optimizer.apply([tf.constant(gradient, tf.float32) for gradient in gradients.values()], list(ours.values()))
        for name, gradient in gradients.items():
            means[name] = 0.8 * means[name] + 0.2 * gradient
            squares[name] = 0.999 * squares[name] + 0.001 * gradient**2
            unbiased = means[name] / (1 - 0.8**step), squares[name] / (1 - 0.999**step)
            decayed = values[name] * (1 - 0.02 * 0.5 * (name == "kernel"))
            values[name] = decayed - 0.02 * unbiased[0] / np.sqrt(unbiased[1])
            np.testing.assert_allclose(ours[name], values[name], rtol=1e-4, atol=1e-5)


def test_adamw_decays_the_kernels_that_the_l2_term_covers():
    model = build_small(blocks_args=["r1_k3.5_a1_p1_s22_e2_i8_o8_se0.5_sw"])
    optimizer = optim.build_optimizer(Recipe(optimizer="adamw"), 0.1, model.trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]
    optimizer.apply([tf.zeros_like(variable) for variable in model.trainable_variables])
    moved = {
        id(variable)
        for variable, value in zip(model.trainable_variables, before, strict=True)
        if not np.array_equal(variable, value)
    }
    biases = {id(variable) for variable in model.trainable_variables if variable.name == "bias"}
    assert moved == {id(variable) for variable in decayed_variables(model)} - biases and biases


def test_adamw_and_clipping_see_the_sum_over_replicas_once(two_replicas):
    rng = np.random.default_rng(6)
    values, gradients = ([rng.normal(size=shape).astype("float32") for shape in ((3, 2), (2,))] for _ in range(2))
    recipe, states = Recipe(optimizer="adamw", weight_decay=0.5), []
    for strategy, shares in ((tf.distribute.get_strategy(), [4.0]), (two_replicas, [1.0, 3.0])):
        with strategy.scope():
            variables = [keras.Variable(value) for value in values]
            optimizer = optim.build_optimizer(recipe, 0.02, variables)

        def step(shares=shares, variables=variables, optimizer=optimizer):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = [tf.gather(shares, replica) * gradient for gradient in gradients]
            optimizer.apply(optim.clip_gradients(own, 0.1), variables)

        for _ in range(3):
            strategy.run(step)
        states.append([value.numpy() for value in (*variables, *optimizer.variables)])
    for one, two in zip(*states, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5)


@pytest.mark.parametrize("clip_norm, scale", [(6.5, 0.5), (13.0, 1.0), (20.0, 1.0)])
def test_gradients_are_clipped_by_their_norm_over_all_variables(clip_norm, scale):
    gradients = [np.array([[3.0, 0.0], [0.0, 4.0]], "float32"), np.array([12.0], "float32")]  # of norm 13
    clipped = optim.clip_gradients([tf.constant(gradient) for gradient in gradients], clip_norm)
    for ours, gradient in zip(clipped, gradients, strict=True):
        np.testing.assert_array_equal(ours, scale * gradient)


@pytest.mark.parametrize("schedule", ["exponential", "cosine", "constant"])
def test_a_schedule_and_an_optimizer_with_it_survive_saving(schedule, tmp_path):
    recipe = Recipe(train_batch_size=100, warmup_epochs=1.3, learning_rate_schedule=schedule)
    rate = build_learning_rate(recipe, 7.3, total_steps=90)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert [float(again(step)) for step in range(100)] == [float(rate(step)) for step in range(100)]

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optim.build_optimizer(recipe, rate, model.trainable_variables), "mse")
    model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
    model.save(tmp_path / "m.keras")
    optimizer = keras.models.load_model(tmp_path / "m.keras").optimizer
    assert isinstance(optimizer, optim.RMSProp) and int(optimizer.iterations) == 1
    assert float(optimizer.learning_rate) == float(rate(1))
