"""Batches from splits: order, augmentation and padding are functions of the position in training."""

import tensorflow as tf

from mixnet_tf.data.augmentation import augment
from mixnet_tf.data.decoding import image_shape
from mixnet_tf.data.mixing import GROUP, mixed_examples, own_part
from mixnet_tf.data.preprocessing import preprocess_for_eval, preprocess_for_train
from mixnet_tf.data.split import Split
from mixnet_tf.errors import InputError
from mixnet_tf.networks import Resizing
from mixnet_tf.recipe import Recipe

_SHUFFLE_BUFFER = 8192  # encoded images, about 1 GB of ImageNet; for splits that do not shuffle their files


def train_batches(
    split: Split,
    recipe: Recipe,
    batch_size: int,
    first_image: int = 0,
    shard: int = 0,
    num_shards: int = 1,
    use_cache: bool = False,
) -> tf.data.Dataset:
    """An endless dataset of training batches.

    Args:
        split: A `data.Split`.
        recipe: The `Recipe`.
        batch_size: Images in a batch of this pipeline.
        first_image: Images of this shard that were used before.
        shard: Number of the shard, from 0; one for each host.
        num_shards: Number of shards.
        use_cache: Whether to keep the encoded images in memory after the first epoch.

    Returns:
        A dataset of (float32 (batch, size, size, 3) in [0, 255], int32 (batch,)); with a recipe that mixes images,
        the labels are soft: float32 (batch, classes).

    Raises:
        ValueError: If the split has fewer images than there are shards.
    """

    def decode(example, seed):
        image = preprocess_for_train(
            example["image"],
            recipe.image_size,
            seed,
            recipe.crop,
            recipe.flip,
            recipe.shift,
            recipe.zoom,
            recipe.rotation,
            split.rules,
            recipe.interpolation,
        )
        image, label = augment(image, recipe, seed), tf.cast(example["label"], tf.int32)
        if not recipe.mixes:
            return image, label
        mixing_seed = tf.random.experimental.stateless_fold_in(seed, 6)
        return image, label, own_part(recipe.image_size, recipe.mixup, recipe.cutmix, mixing_seed)

    within_group = first_image % GROUP if recipe.mixes else 0
    examples = train_examples(split, recipe, first_image - within_group, shard, num_shards, use_cache)
    examples = examples.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    if recipe.mixes:
        examples = mixed_examples(examples, split.num_classes).skip(within_group)
    return prefetched(examples.batch(batch_size, drop_remainder=True))


def train_examples(
    split: Split, recipe: Recipe, first_image: int = 0, shard: int = 0, num_shards: int = 1, use_cache: bool = False
) -> tf.data.Dataset:
    """An endless dataset of encoded training examples, in the order of `train_batches`.

    `first_image` decides the epoch and the position in it; the recipe's seed decides the order and the augmentation of
    an epoch. So a run that resumes at an image sees the same data as an unbroken run.

    Args:
        split: A `data.Split`.
        recipe: The `Recipe`; its seed decides the order and the augmentation.
        first_image: Images of this shard that were used before.
        shard: Number of the shard, from 0; one for each host.
        num_shards: Number of shards.
        use_cache: Whether to keep the encoded images in memory after the first epoch.

    Returns:
        A dataset of (example of the split, int32 (2,) seed of its augmentation).

    Raises:
        ValueError: If the split has fewer images than there are shards.
    """
    size = split.num_examples // num_shards
    if size == 0:
        raise InputError(f"Split {split.name!r} has {split.num_examples} images, fewer than {num_shards} hosts.")
    first_epoch, offset = divmod(first_image, size)
    cached = split.read(None, shard, num_shards).cache() if use_cache else None

    def epoch_examples(epoch):
        # The seed of this function's graph, because a global one would mix with ours, and 0 cannot be compared.
        tf.compat.v1.set_random_seed(1)
        seed = tf.random.experimental.stateless_fold_in(tf.constant((recipe.seed, shard)), epoch)
        files_seed, order_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2)[:, 0])
        first = tf.where(epoch == first_epoch, tf.constant(offset, tf.int64), 0)
        if split.ids is not None and cached is None:
            examples = split.read(order_seed, shard, num_shards, tf.cast(first, tf.int32))
            examples = examples.take(size - first).enumerate(first)
        else:
            examples = split.read(files_seed, shard, num_shards) if cached is None else cached
            buffer = min(_SHUFFLE_BUFFER, size) if split.ids is None else size
            examples = examples.shuffle(buffer, order_seed, reshuffle_each_iteration=False)
            # Hosts' files may have different numbers of records, but every host uses the same number of images.
            examples = examples.repeat().take(size).enumerate().skip(first)
        return examples.map(lambda place, example: (example, tf.random.experimental.stateless_fold_in(seed, place)))

    return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_examples)


def eval_batches(
    split: Split,
    image_size: int,
    batch_size: int,
    crop: bool | Resizing = True,
    shard: int = 0,
    num_shards: int = 1,
    multiple: int = 1,
    use_cache: bool = False,
) -> tf.data.Dataset:
    """A dataset of every image of a shard once, in batches of the same shape.

    Args:
        split: A `data.Split`.
        image_size: Pixels.
        batch_size: Images in a batch; the last batches are padded.
        crop: How images are cropped and resized, as for `preprocess_for_eval`.
        shard: Number of the shard, from 0; one for each host.
        num_shards: Number of shards; each has the same number of batches.
        multiple: The number of batches is a multiple of this: the replicas that a host feeds.
        use_cache: Whether to keep the encoded images in memory after the first pass.

    Returns:
        A dataset of (images float32 (batch, size, size, 3), labels int32 (batch,), mask float32 (batch,)); the mask is
        1 for an image and 0 for padding.
    """

    def decode(example):
        image = preprocess_for_eval(example["image"], image_size, crop, split.rules)
        return image, tf.cast(example["label"], tf.int32), tf.constant(1.0)

    largest_shard = split.shard_size(0, num_shards)
    round_of_batches = batch_size * multiple
    padded_size = -(-largest_shard // round_of_batches) * round_of_batches
    nothing = (tf.zeros((image_size, image_size, 3)), tf.constant(0), tf.constant(0.0))
    padding = tf.data.Dataset.from_tensors(nothing).repeat(padded_size - split.shard_size(shard, num_shards))
    examples = split.read(None, shard, num_shards)
    batches = (
        (examples.cache() if use_cache else examples)
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .concatenate(padding)
        .batch(batch_size, drop_remainder=True)
    )
    return prefetched(batches)


def measuring_batches(
    split: Split, image_size: int, batch_size: int, crop: bool | Resizing = True, shard: int = 0, num_shards: int = 1
) -> tf.data.Dataset:
    """A dataset of whole batches of a shard's images, prepared as for evaluation, in the order of the files.

    The arguments are those of `eval_batches`.

    Returns:
        A dataset of float32 (batch, size, size, 3).
    """
    batches = (
        split.read(None, shard, num_shards)
        .map(
            lambda example: preprocess_for_eval(example["image"], image_size, crop, split.rules),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .batch(batch_size, drop_remainder=True)
    )
    return prefetched(batches)


def report_batches(split: Split, image_size: int, batch_size: int, crop: bool | Resizing = True) -> tf.data.Dataset:
    """A dataset of every image of a split once, with its id; the last batch may be smaller.

    The arguments are those of `eval_batches`.

    Returns:
        A dataset of (images float32 (batch, size, size, 3), labels int32 (batch,), ids string (batch,)).
    """

    def decode(example):
        image = preprocess_for_eval(example["image"], image_size, crop, split.rules)
        return image, tf.cast(example["label"], tf.int32), example["id"]

    batches = split.read(None, 0, 1).map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    return prefetched(batches)


def shorter_sides(split: Split, count: int) -> list[int]:
    """The shorter sides of the first images of a split, pixels; at most `count` of them."""

    def side(example):
        return tf.reduce_min(image_shape(example["image"], split.rules)[:2])

    examples = split.read().take(count)
    return [int(each) for each in examples.map(side, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator()]


def prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The end of every pipeline: batches are prefetched, in a deterministic order, and not sharded by TensorFlow."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)
