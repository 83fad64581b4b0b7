"""Batches as functions of the position in training."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.data import pipeline
from mixnet_tf.data.pipeline import eval_batches, train_batches, train_examples
from mixnet_tf.data.split import Split
from mixnet_tf.data.splits import load_split
from mixnet_tf.recipe import Recipe

_RECIPE = Recipe(image_size=8, crop=False, flip=False)


@pytest.fixture(scope="module")
def numbered():
    """23 images of one grey each, and their number as label."""
    images = [tf.io.encode_png(tf.fill((8, 8, 3), tf.cast(i, tf.uint8))).numpy() for i in range(23)]

    def read(shuffle_seed=None, shard=0, num_shards=1):
        del shuffle_seed
        ids = [str(i) for i in range(23)]
        examples = tf.data.Dataset.from_tensor_slices(
            {"image": images, "label": np.arange(23, dtype="int64"), "id": ids}
        )
        return examples.shard(num_shards, shard)

    return Split("numbered", "train", 23, None, 23, read)


def _order(split, count, **options):
    """The labels of the first examples to train on, which are decoded in this order, and their seeds."""
    recipe = _RECIPE._replace(seed=options.pop("seed", _RECIPE.seed))
    examples = train_examples(split, recipe, **options).take(count).as_numpy_iterator()
    return [(int(example["label"]), *map(int, seed)) for example, seed in examples]


def test_every_epoch_holds_every_image_once_in_an_order_of_its_own_and_a_batch_may_span_two(numbered):
    batches = list(train_batches(numbered, _RECIPE, 10).take(7))
    for images, labels in batches:
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    labels = np.concatenate([labels for _, labels in batches]).tolist()
    epochs = [labels[i : i + 23] for i in (0, 23, 46)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert labels == [label for label, *_ in _order(numbered, 70)]


@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("places", [(3,), pytest.param((1, 2, 9), marks=pytest.mark.soak)])
def test_a_run_that_starts_later_sees_what_an_unbroken_one_would(numbered, places, use_cache):
    order = _order(numbered, 120, use_cache=use_cache)
    for steps in (1, 2, 3, 9):
        resumed = _order(numbered, 120 - 10 * steps, first_image=10 * steps, use_cache=use_cache)
        assert resumed == order[10 * steps :], "examples and the seeds of their augmentation"
    recipe = _RECIPE._replace(flip=True, crop=True, shift=0.3, zoom=0.3, rotation=30.0, image_size=6)
    unbroken = list(train_batches(numbered, recipe, 10, use_cache=use_cache).take(12))
    for steps in places:
        resumed = train_batches(numbered, recipe, 10, first_image=10 * steps, use_cache=use_cache).take(12 - steps)
        for (images, labels), (images_again, labels_again) in zip(unbroken[steps:], list(resumed), strict=True):
            np.testing.assert_array_equal(labels, labels_again)
            np.testing.assert_array_equal(images, images_again)


def test_another_seed_gives_another_order(numbered):
    orders = {tuple(label for label, *_ in _order(numbered, 23, seed=seed)) for seed in range(3)}
    assert len(orders) == 3


def test_a_global_seed_changes_nothing(numbered, data_dir):
    digits = load_split("digits", data_dir, False)
    try:
        orders = []
        for seed in (None, 0, 7):
            tf.random.set_seed(seed)
            orders.append([_order(split, 60) for split in (numbered, digits)])
    finally:
        tf.random.set_seed(None)
    assert orders[0] == orders[1] == orders[2]


def test_augmentation_differs_between_images_and_epochs(photographs):
    image = tf.io.read_file(photographs["china.jpg"]).numpy()

    def read(shuffle_seed=None, shard=0, num_shards=1):
        return tf.data.Dataset.from_tensors({"image": image, "label": np.int64(0), "id": "0"}).repeat(2)

    split = Split("same", "train", 2, None, 1, read)
    recipe = Recipe(image_size=16)
    views = [images.numpy().tobytes() for images, _ in train_batches(split, recipe, 1).take(6)]
    assert len({hashlib.sha256(view).hexdigest() for view in views}) == 6


def test_shift_zoom_and_rotation_each_reach_the_training_images(numbered):
    [(still, labels)] = train_batches(numbered, _RECIPE, 23).take(1)
    for field, value in (("shift", 0.3), ("zoom", 0.3), ("rotation", 30.0)):
        [(moved, same_labels)] = train_batches(numbered, _RECIPE._replace(**{field: value}), 23).take(1)
        np.testing.assert_array_equal(labels, same_labels)
        changed = np.abs(moved - still).max(axis=(1, 2, 3)) > 0
        # Number 0 is black; enlarged, no grey changes.
        assert changed.sum() > 5 and not changed[labels.numpy() == 0].any(), field


@pytest.mark.soak
def test_augmented_and_mixed_images_depend_on_their_place_alone(numbered):
    augmentation = {"randaugment_layers": 2, "color_jitter": 0.4, "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0}
    recipe = Recipe(image_size=8, **augmentation)

    def examples(batch_size, batches, first_image=0):
        taken = list(train_batches(numbered, recipe, batch_size, first_image).take(batches))
        return [np.concatenate([batch[part] for batch in taken]) for part in (0, 1)]

    images, labels = examples(7, 8)  # more than two epochs
    assert images.min() >= 0 and images.max() <= 255 and labels.shape == (56, 23)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    for first, again in ((0, examples(2, 28)), (21, examples(7, 5, first_image=21))):  # of a replica; resumed
        np.testing.assert_array_equal(again[0], images[first:])
        np.testing.assert_array_equal(again[1], labels[first:])
    order = [label for label, *_ in _order(numbered, 56)]
    for place, soft in enumerate(labels):
        assert set(np.flatnonzero(soft)) <= {order[place], order[place ^ 1]}


def test_hosts_give_as_many_images_each_and_no_image_twice(numbered):
    shards = [[label for label, *_ in _order(numbered, 11, shard=i, num_shards=2)] for i in range(2)]
    assert len(set(shards[0] + shards[1])) == 22


@pytest.mark.parametrize("num_shards", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [4, 23, 30])
def test_eval_counts_every_image_once_on_any_number_of_hosts(numbered, num_shards, batch_size, monkeypatch):
    # A decoder without branches, as each of the many pipelines is traced anew.
    monkeypatch.setattr(
        pipeline, "preprocess_for_eval", lambda image, *_: tf.cast(tf.io.decode_png(image, 3), "float32")
    )
    seen, batch_counts = [], []
    for shard in range(num_shards):
        batches = list(eval_batches(numbered, 8, batch_size, False, shard, num_shards, multiple=2))
        batch_counts.append(len(batches))
        for images, labels, mask in batches:
            assert images.shape == (batch_size, 8, 8, 3)
            np.testing.assert_array_equal((images[:, 0, 0, 0] * mask), tf.cast(labels, tf.float32) * mask)
            seen += labels[mask == 1].numpy().tolist()
    assert sorted(seen) == list(range(23))
    assert len(set(batch_counts)) == 1 and batch_counts[0] % 2 == 0


def test_more_hosts_than_images_is_an_error(numbered):
    with pytest.raises(ValueError, match="fewer than 24 hosts"):
        train_batches(numbered, _RECIPE, 1, num_shards=24)


def test_digits_train_without_crop_or_flip(data_dir):
    split = load_split("digits", data_dir, False)
    [(images, labels)] = train_batches(split, _RECIPE, split.num_examples).take(1)
    whole = {
        (tf.io.decode_png(example["image"], 3).numpy().astype("float32").tobytes(), example["label"])
        for example in split.read().as_numpy_iterator()
    }
    assert {(i.tobytes(), n) for i, n in zip(images.numpy(), labels.numpy(), strict=True)} == whole
