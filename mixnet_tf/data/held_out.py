"""A part of a split that is kept out of training, for what a search compares its networks by."""

import numpy as np
import tensorflow as tf

from mixnet_tf.data.rules import rules_of
from mixnet_tf.data.split import Split
from mixnet_tf.errors import InputError

_BUCKETS = 1_000_000
_KEY = (1907, 9595)  # of the hash; any two numbers
_DIGEST_KEY = (9595, 1907)
_CLASS_AND_FILE, _FILE = "^.*/([^/]+/[^/]+)$", "^.*/([^/]+)$"


def hold_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """Divides a split into the images to train on and those held out.

    A hash of an image's name decides where it belongs, so that neither order nor sharding nor the data's folder changes
    it: of its shard's base name and the record's number, or of its class and file. Both parts are counted without
    reading an image where the split has `ids`, else in one pass over the encoded examples.

    Args:
        split: A `data.Split`, whose ids are different.
        fraction: Of the images to hold out, above 0 and below 1; what is held out is near it.

    Returns:
        (the rest, what is held out), two of `data.Split`; the second is read as one shard, and its `digest` stands for
        the names of its images; 0.2.0's rules had none.

    Raises:
        ValueError: For another fraction, or if one of the parts would be empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"held_out: expected a fraction above 0 and below 1, received {fraction!r}.")
    by_shard = rules_of(split.data_version).finds_held_out_by_shard
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
    rest = split._replace(num_examples=split.num_examples - count, **parts[False])
    name, shown = f"held out of {split.name}", f"{digest % 2**64:016x}" if by_shard else None
    return rest, split._replace(name=name, num_examples=count, digest=shown, **parts[True])


def _digest(names):
    """The sum of the names' hashes, whatever their order: int64, which may overflow."""
    return tf.reduce_sum(tf.strings.to_hash_bucket_strong(names, np.iinfo(np.int64).max, _DIGEST_KEY))


def _count(split, is_held, names):
    """How many examples are held out, and their digest."""
    held = split.read(None, 0, 1).map(lambda example: example["id"]).filter(is_held)
    start = (np.int64(0), np.int64(0))
    count, digest = held.reduce(start, lambda sums, name: (sums[0] + 1, sums[1] + _digest(names(name[tf.newaxis]))))
    return int(count), int(digest)


def _filtered(split, is_held, held):
    """How one of the parts is read where every example has to be looked at."""

    def read(shuffle_seed=None, shard=0, num_shards=1):
        _check_shards(held, num_shards)
        return split.read(shuffle_seed, shard, num_shards).filter(lambda example: is_held(example["id"]) == held)

    return read


def _chosen(split, own, held):
    """What one of the parts has in place of its split's, where the ids say which examples are its own."""

    def read(shuffle_seed=None, shard=0, num_shards=1, first=0, places=None):
        _check_shards(held, num_shards)
        chosen = own if places is None else tf.gather(own, places)
        return split.read(shuffle_seed, shard, num_shards, first, chosen)

    return {"ids": tf.gather(split.ids, own), "read": read}


def _check_shards(held, num_shards):
    if held and num_shards > 1:
        raise InputError("Held out images are read as one shard.")
