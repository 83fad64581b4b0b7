"""Divides images into the splits "train" and "validation", by a hash of their paths."""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from mixnet_tf.errors import InputError

HASH_VERSION = 1
DEFAULT_FRACTION = 0.2
TRAIN, VALIDATION, ALL = "train", "validation", "all"
HASHED_SPLITS = (TRAIN, VALIDATION, ALL)


def check_hash_version(version: int | None) -> None:
    """Raises a ValueError if a run's hash is of an unknown version; None: the run's dataset has splits of its own."""
    if version is not None and (isinstance(version, bool) or version != HASH_VERSION):
        raise InputError(
            f"hash_version: expected {HASH_VERSION}, received {version!r}. A larger one was written by a newer "
            "mixnet_tf; install that version."
        )


def place_of(path: str) -> float:
    """The hash of a path, a number from 0 to below 1.

    Args:
        path: The path relative to the dataset's folder, with forward slashes. Names that differ only in their Unicode
            normalization, as after a copy from a Mac, have the same hash.
    """
    digest = hashlib.sha256(unicodedata.normalize("NFC", path).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # exact in float64


def is_validation(paths: Sequence[str], fraction: float) -> np.ndarray:
    """Decides which images of a class belong to the split "validation": those whose hash is below the fraction.

    More images move none of these from one split to the other, with one exception: if all hashes of a class are below
    the fraction, its image with the largest one is for training.

    Args:
        paths: The paths of the class's images, as for `place_of`.
        fraction: Fraction of the images for validation, above 0 and below 1; it is met approximately.

    Returns:
        bool (images,).
    """
    places = np.array([place_of(path) for path in paths])
    held = places < fraction
    if len(held) and held.all():
        held[places.argmax()] = False
    return held
