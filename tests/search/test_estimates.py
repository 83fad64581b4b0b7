"""Estimates: the L2 term, the statistics of each network, the networks that are drawn, and several replicas."""

import signal

import numpy as np
import pytest
import tensorflow as tf
from short_search import LARGE, RECIPE, SMALL
from tiny import randomise

from mixnet_tf.data import eval_batches
from mixnet_tf.runs import RunConfig
from mixnet_tf.search import SearchSpace, extract
from mixnet_tf.search.estimates import WholeTraining, build_trainer, drawn_batches
from mixnet_tf.search.measuring import Interrupted
from mixnet_tf.training import Interruption, decayed_variables, l2_loss, read_metrics
from mixnet_tf.training.recalibration import recalibrate

_SIZE, _BATCH = RECIPE.image_size, 32
_RECIPE = RECIPE._replace(train_batch_size=_BATCH)


@pytest.fixture(scope="module")
def space(digits_space):
    return digits_space


@pytest.fixture(scope="module")
def held_out(data):
    """The images, and their labels, that networks are measured on."""
    batches = eval_batches(data.held_out, _SIZE, data.held_out.num_examples, _RECIPE.crop)
    [(pictures, labels, _)] = batches
    return pictures, labels.numpy()


def _accuracy(model, held_out):
    pictures, labels = held_out
    return np.mean(model(pictures).numpy().argmax(-1) == labels)


def _batch(seed=0, copies=1):
    random = np.random.RandomState(seed)
    pictures = np.tile(random.randint(0, 256, (_BATCH, _SIZE, _SIZE, 3)).astype(np.float32), (copies, 1, 1, 1))
    return tf.constant(pictures), tf.constant(np.tile(random.randint(0, 10, _BATCH), copies), tf.int32)


def test_l2_covers_the_weights_of_the_steps_network_alone(space):
    recipe = _RECIPE._replace(weight_decay=0.1)
    trainer = build_trainer(space, 10, recipe, 100, 4)
    without = build_trainer(space, 10, _RECIPE._replace(weight_decay=0.0), 100, 4).objective
    images, labels = _batch()
    for choice in (SMALL, LARGE):
        taken = tf.constant([choice], tf.int32)
        alone = extract(trainer.model, space, choice)
        expected = float(l2_loss(decayed_variables(alone)))
        outputs = trainer.model([images, taken])
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            with_l2, _ = trainer.objective.share(outputs, {"label": labels, "choice": taken})
        plain, _ = without.share(outputs, {"label": labels, "choice": taken})
        assert float(with_l2 - plain) == pytest.approx(0.1 * expected, rel=1e-4)
        with tf.GradientTape() as tape:
            loss, _ = trainer.objective.share(outputs, {"label": labels, "choice": taken})
        for weight, gradient in zip(
            trainer.model.trainable_variables, tape.gradient(loss, trainer.model.trainable_variables), strict=True
        ):
            if gradient is not None:  # weight decay changes a weight, or does not
                pulled = np.abs(np.array(gradient)) > 0
                np.testing.assert_allclose(np.array(gradient), 0.1 * np.array(weight) * pulled, rtol=1e-4, atol=1e-7)
    block = trainer.model.get_layer("block_2")  # the repeat that the small network lacks
    assert float(block.l2(tf.constant(SMALL))) == 0 < float(block.l2(tf.constant(LARGE)))


@pytest.mark.soak
def test_a_network_is_measured_as_it_would_be_alone(space, data, short, held_out):
    model, measure, found = short._trainer.model, short._measure, {}
    randomise(model)
    for choice in (SMALL, LARGE, SMALL):
        measured = measure(choice)
        if choice in found:
            assert found[choice] == measured
            continue
        found[choice] = measured
        alone = extract(model, space, choice)
        assert measured["top_1_accuracy"] == pytest.approx(_accuracy(alone, held_out), abs=1e-6)
        statistics = [v for v in alone.variables if "moving" in v.name]
        ours = [np.array(v) for v in statistics]
        recalibrate(alone, data.train, _RECIPE)
        for value, variable in zip(ours, statistics, strict=True):  # of 512 images there, up to 1,280 here
            np.testing.assert_allclose(value, variable, rtol=0.2, atol=0.1 * np.abs(np.array(variable)).max())


@pytest.mark.soak
def test_each_estimate_starts_anew_and_one_trace_serves_all(short):
    never = Interruption()
    first, other = short(SMALL, never), short(LARGE, never)
    assert short(SMALL, never) == pytest.approx(first, rel=1e-4)
    assert first["cross_entropy"] != other["cross_entropy"]
    assert short._trainer.train_steps.experimental_get_tracing_count() == 1
    assert short._measure._scores.sums.experimental_get_tracing_count() == 1


def test_an_estimate_stops_between_steps(short):
    interruption = Interruption()
    interruption.requested = signal.SIGTERM
    with pytest.raises(Interrupted) as stopped:
        short(SMALL, interruption)
    assert stopped.value.signal == signal.SIGTERM


@pytest.mark.soak
def test_a_whole_training_is_a_run_that_train_would_make_and_is_not_repeated(data, held_out, tmp_path):
    space = SearchSpace.decode(["r1_k3|3.5_a1_p1_s22_e1_i8_o8"], {"feature_size": 16, "num_classes": 10})
    recipe = _RECIPE._replace(train_steps=3, recalibrate_batch_norm=False)
    train = WholeTraining(space, data, recipe)
    measured = train((1,), str(tmp_path))
    alone = RunConfig.read(tmp_path).build_model(classifier_activation=None)
    averages = tf.train.load_checkpoint(str(tmp_path / "checkpoints"))
    alone.set_weights(
        [averages.get_tensor(f"averages/{at}/.ATTRIBUTES/VARIABLE_VALUE") for at in range(len(alone.weights))]
    )
    assert measured["top_1_accuracy"] == pytest.approx(_accuracy(alone, held_out), abs=1e-6)
    assert train((1,), str(tmp_path)) == pytest.approx(measured, rel=1e-5)
    assert [row["step"] for row in read_metrics(tmp_path)] == [3]


@pytest.mark.soak
def test_the_step_decides_which_network_is_drawn(space, data):
    def choices(first_step, count):
        batches = drawn_batches(space)(data.train, _RECIPE, _BATCH, first_step * _BATCH)
        return [tuple(choice.numpy()[0]) for (_, choice), _ in batches.take(count)]

    drawn = choices(0, 12)
    assert choices(5, 7) == drawn[5:] and len(set(drawn)) > 6
    sizes = [len(each.values) for each in space.alternatives]
    assert all(0 <= place < size for choice in drawn for place, size in zip(choice, sizes, strict=True))
    halves = drawn_batches(space)(data.train, _RECIPE, _BATCH // 2)  # of two replicas, which train the same network
    of_replicas = [tuple(choice.numpy()[0]) for (_, choice), _ in halves.take(4)]
    assert of_replicas == [drawn[0], drawn[0], drawn[1], drawn[1]]


@pytest.mark.soak
def test_two_replicas_with_the_same_images_are_one_device(two_replicas):
    space = SearchSpace.decode(["r1_k3|3.5_a1_p1_s22_e1_i8_o8"], {"feature_size": 16, "dropout_rate": 0.0})
    taken, ends = tf.constant([[1]], tf.int32), []
    for strategy, copies in ((None, 1), (two_replicas, 2)):
        recipe = _RECIPE._replace(train_batch_size=_BATCH * copies, weight_decay=0.01)
        recipe = recipe._replace(base_learning_rate=recipe.base_learning_rate / copies, warmup_epochs=0.0)
        if strategy is None:
            trainer = build_trainer(space, 10, recipe, 100, 4)
        else:
            with strategy.scope():
                trainer = build_trainer(space, 10, recipe, 100, 4)
        images, labels = _batch(copies=copies)

        def batches(context, images=images, labels=labels, copies=copies):
            one = tf.data.Dataset.from_tensors((images, labels)).repeat().unbatch().batch(_BATCH)
            return one.map(lambda x, y: ((x, taken), {"label": y, "choice": taken}))

        iterator = iter(trainer.strategy.distribute_datasets_from_function(batches))
        metrics = trainer.train_steps(iterator, tf.constant(2))
        ends.append((float(metrics["loss"]), [np.array(v) for v in trainer.model.trainable_variables]))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-4)
    for value, other in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-3, atol=1e-5)
