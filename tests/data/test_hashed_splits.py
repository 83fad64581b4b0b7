"""The hash that holds images out: fixed for all time, and the same wherever a folder is copied to."""

import unicodedata

import numpy as np
import pytest

from mixnet_tf.data.hashed_splits import check_hash_version, is_validation, place_of

# The first 12 digits of `printf PATH | sha256sum`. A run's split follows from them, so they may never change.
_DIGESTS = {"cat/0.png": "1a07b51d8961", "dog/IMG_1234.JPG": "833ec4b2921b", "Löwe/1.jpg": "52d3fd9aaada"}


@pytest.mark.parametrize("path, digest", _DIGESTS.items())
def test_the_hash_of_a_path_is_the_beginning_of_its_sha256(path, digest):
    assert place_of(path) == int(digest, 16) / 16**12


def test_a_name_has_one_hash_in_both_of_its_unicode_forms():
    composed, decomposed = (unicodedata.normalize(form, "Löwe/Größe é.jpg") for form in ("NFC", "NFD"))
    assert composed != decomposed and place_of(composed) == place_of(decomposed)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_the_share_of_many_images_is_near_the_fraction(fraction):
    held = is_validation([f"class_{number % 10}/{number}.jpg" for number in range(10_000)], fraction)
    assert held.dtype == bool and abs(held.mean() - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / 10_000)


def test_more_images_and_a_larger_fraction_move_no_image_back():
    paths = [f"cat/{number}.jpg" for number in range(200)]
    held = is_validation(paths, 0.2)
    np.testing.assert_array_equal(is_validation([*paths, *(f"cat/new {i}.jpg" for i in range(100))], 0.2)[:200], held)
    assert not np.any(held & ~is_validation(paths, 0.4))


def test_a_class_whose_hashes_are_all_below_the_fraction_keeps_its_largest_for_training():
    paths = sorted((f"cat/{number}.jpg" for number in range(40)), key=place_of)[:3]
    assert is_validation([paths[2], paths[0], paths[1]], 0.5).tolist() == [False, True, True]
    assert is_validation(paths[:1], 0.5).tolist() == [False] and is_validation([], 0.5).tolist() == []


@pytest.mark.parametrize("version", [2, 0, True, "1"])
def test_the_hash_of_a_newer_version_is_refused(version):
    check_hash_version(None)
    check_hash_version(1)
    with pytest.raises(ValueError, match="hash_version: expected 1, received .* newer mixnet_tf"):
        check_hash_version(version)
