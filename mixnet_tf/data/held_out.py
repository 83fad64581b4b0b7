"""Holds out a part of a split, on which a search compares its networks."""

import numpy as np
import tensorflow as tf

from mixnet_tf.data.split import Split
from mixnet_tf.errors import InputError

_BUCKETS = 1_000_000
_KEY = (1907, 9595)  # keys of the hash; any two numbers
_DIGEST_KEY = (9595, 1907)
_CLASS_AND_FILE, _FILE = "^.*/([^/]+/[^/]+)$", "^.*/([^/]+)$"


def hold_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """Divides a split into the images to train on and those held out.

    A hash of an image's name decides its part, so that order, sharding and the data's folder have no effect. The name
    is the shard's base name and the record's number, or the class and the file. If the split has `ids`, both parts are
    counted without reading an image, otherwise in one pass over the encoded examples.

    Args:
        split: A `data.Split` with distinct ids.
        fraction: Fraction of the images to hold out, above 0 and below 1; it is met approximately.

    Returns:
        (the rest, the held-out images), two `data.Split`s. The second is read as one shard, and its `digest` identifies
        its images; by the rules of 0.2.0 it is None.

    Raises:
        ValueError: If the fraction is out of range, or if one of the parts would be empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"held_out: expected a fraction above 0 and below 1, received {fraction!r}.")
    by_shard = split.rules.finds_held_out_by_shard
    pattern = _FILE if by_shard and split.files else _CLASS_AND_FILE

    def names(ids):
        return tf.strings.regex_replace(ids, pattern, r"\1")

    def is_held(ids):
        return tf.strings.to_hash_bucket_strong(names(ids), _BUCKETS, _KEY) < round(fraction * _BUCKETS)

    if split.ids is None:
        count, digest = _count(split, is_held, names)
        parts = {held: {"read": _filtered(split, is_held, held)} for held in (False, True)}
    else:
        mask = is_held(split.ids)
        count, digest = int(tf.reduce_sum(tf.cast(mask, tf.int64))), int(_digest(names(split.ids[mask])))
        parts = {held: _chosen(split, tf.where(mask == held)[:, 0], held) for held in (False, True)}
    if not 0 < count < split.num_examples:
        raise InputError(
            f"held_out={fraction} of the {split.num_examples} images of split {split.name!r} leaves one part empty; "
            "name another fraction."
        )
    split = split._replace(class_counts=None)  # of the whole
    rest = split._replace(num_examples=split.num_examples - count, **parts[False])
    name, shown = f"held out of {split.name}", f"{digest % 2**64:016x}" if by_shard else None
    return rest, split._replace(name=name, num_examples=count, digest=shown, **parts[True])


def _digest(names):
    """The sum of the names' hashes, which does not depend on their order: int64, which may overflow."""
    return tf.reduce_sum(tf.strings.to_hash_bucket_strong(names, np.iinfo(np.int64).max, _DIGEST_KEY))


def _count(split, is_held, names):
    """The number of held-out examples, and their digest."""
    held = split.read(None, 0, 1).map(lambda example: example["id"]).filter(is_held)
    start = (np.int64(0), np.int64(0))
    count, digest = held.reduce(start, lambda sums, name: (sums[0] + 1, sums[1] + _digest(names(name[tf.newaxis]))))
    return int(count), int(digest)


def _filtered(split, is_held, held):
    """The `read` function of one part, if every example has to be read to decide."""

    def read(shuffle_seed=None, shard=0, num_shards=1):
        _check_shards(held, num_shards)
        return split.read(shuffle_seed, shard, num_shards).filter(lambda example: is_held(example["id"]) == held)

    return read


def _chosen(split, own, held):
    """The fields of one part, if the ids decide which examples belong to it."""

    def read(shuffle_seed=None, shard=0, num_shards=1, first=0, places=None):
        _check_shards(held, num_shards)
        chosen = own if places is None else tf.gather(own, places)
        return split.read(shuffle_seed, shard, num_shards, first, chosen)

    return {"ids": tf.gather(split.ids, own), "read": read}


def _check_shards(held, num_shards):
    if held and num_shards > 1:
        raise InputError("Held-out images can be read only as one shard.")
