"""A part of a split that is kept out of training, for what a search compares its networks by."""

import numpy as np
import tensorflow as tf

from mixnet_tf.data.splits import Split
from mixnet_tf.errors import InputError

_BUCKETS = 1_000_000
_KEY = (1907, 9595)  # of the hash; any two numbers


def hold_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """Divides a split into the images to train on and those held out.

    A hash of an image's id decides where it belongs, so that neither order nor sharding nor the data's folder changes
    it. Both parts are counted in one pass over the encoded examples.

    Args:
        split: A `data.Split`, whose ids are different.
        fraction: Of the images to hold out, above 0 and below 1; what is held out is near it.

    Returns:
        (the rest, what is held out), two of `data.Split`; the second is read as one shard.

    Raises:
        ValueError: For another fraction, or if one of the parts would be empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"held_out: expected a fraction above 0 and below 1, received {fraction!r}.")

    def is_held(example):
        name = tf.strings.regex_replace(example["id"], "^.*/([^/]+/[^/]+)$", r"\1")
        return tf.strings.to_hash_bucket_strong(name, _BUCKETS, _KEY) < round(fraction * _BUCKETS)

    count = int(split.read(None, 0, 1).filter(is_held).reduce(np.int64(0), lambda total, _: total + 1))
    if not 0 < count < split.num_examples:
        raise InputError(
            f"held_out={fraction} of the {split.num_examples} images of split {split.name!r} leaves one part empty; "
            "name another fraction."
        )

    def read(held):
        def examples(shuffle_seed=None, shard=0, num_shards=1):
            if held and num_shards > 1:
                raise InputError("Held out images are read as one shard.")
            return split.read(shuffle_seed, shard, num_shards).filter(lambda example: is_held(example) == held)

        return examples

    rest = split._replace(num_examples=split.num_examples - count, read=read(False))
    return rest, split._replace(name=f"held out of {split.name}", num_examples=count, read=read(True))
