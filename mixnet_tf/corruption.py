"""Which record or image of a split is damaged: a scan after the failure finds it, so reading costs nothing more."""

import contextlib

import tensorflow as tf

from mixnet_tf.data import count_records


@contextlib.contextmanager
def naming_corrupt_images(split):
    """Turns the failure of the code inside to read `split` into an error that names the record or image.

    Args:
        split: The `data.Split` that the code inside reads.

    Raises:
        ValueError: If a record of the split cannot be read or an image not be decoded, with the file and place
            of the first one.
        tf.errors.InvalidArgumentError, tf.errors.DataLossError: What the code inside raised, if all can be.
    """
    try:
        yield
    except tf.errors.DataLossError:
        print(f"Reading failed; looking for a record of split {split.name!r} that cannot be read.", flush=True)
        count_records(split.files)
        raise
    except tf.errors.InvalidArgumentError as error:
        print(f"Reading failed; looking for an image of split {split.name!r} that cannot be decoded.", flush=True)
        found = find_corrupt(split)
        if found is None:
            raise
        raise ValueError(
            f"The image {found} of split {split.name!r} of dataset {split.dataset!r} cannot be decoded: it is "
            f"damaged, or not a JPEG, PNG, GIF or BMP file."
        ) from error


def find_corrupt(split):
    """The "id" of the first example of a `data.Split` whose image cannot be decoded whole, or None."""

    def place_and_size(place, example):
        image = tf.io.decode_image(example["image"], channels=3, expand_animations=False)
        return place, tf.size(image)  # the size, so that the decoding is not left out as unused

    places = split.read().enumerate().map(place_and_size, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    expected = 0
    for place, _ in places:
        if place != expected:
            break
        expected += 1
    for example in split.read().skip(expected).take(1):
        return example["id"].numpy().decode()
    return None
