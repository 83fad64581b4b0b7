"""Finds the damaged record or image of a split by a scan after the failure, so that reading costs nothing."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from mixnet_tf.data.decoding import FORMATS, decode_image
from mixnet_tf.data.objects import OBJECT_ERROR
from mixnet_tf.data.split import LABEL_ERROR, Split
from mixnet_tf.data.tfrecords import count_records
from mixnet_tf.errors import InputError
from mixnet_tf.progress import Progress, silent

# The ops that decode images, as they appear in TensorFlow's errors.
_DECODING = re.compile(r"\{\{node [^}]*(DecodeImage|DecodeAndCropJpeg|ExtractJpegShape|DecodeBmp)")

# TensorFlow's message if a file cannot be opened.
_UNREAD = re.compile(
    r"(?:^|: )([^\n]+?); (No such file or directory|Permission denied|Is a directory|Input/output error)"
)


@contextlib.contextmanager
def naming_corrupt_images(split: Split, progress: Progress = silent) -> Iterator[None]:
    """Within its `with` block, a failure to read `split` becomes an error that names the record or image.

    Args:
        split: The `data.Split` that the block reads.
        progress: Shows the phases of the work, for the scan after a failure.

    Raises:
        ValueError: If a record or image file of the split cannot be read, if an image cannot be decoded, or if a label
            or box is impossible. The message has the file and position of the first one.
        tf.errors.InvalidArgumentError, tf.errors.DataLossError: The block's own error, if it has another cause.
    """
    try:
        yield
    except tf.errors.DataLossError:
        with progress(f"Reading failed; looking for a record of split {split.name!r} that cannot be read"):
            count_records(split.files)
        raise
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError) as error:
        unread = _UNREAD.search(re.sub(r"\{\{.*?\}\} *", "", str(error)))  # message without the names of ops
        if unread is None:
            raise
        raise InputError(
            f"The image {unread[1]} of split {split.name!r} of dataset {split.dataset!r} cannot be read: {unread[2]}."
        ) from error
    except tf.errors.InvalidArgumentError as error:
        wrong = LABEL_ERROR.search(str(error)) or OBJECT_ERROR.search(str(error))
        if wrong is not None:
            raise InputError(f"Split {split.name!r} of dataset {split.dataset!r}: {wrong[0]}") from error
        if _DECODING.search(str(error)) is None:
            raise
        with progress(f"Reading failed; looking for an image of split {split.name!r} that cannot be decoded"):
            found = find_corrupt(split)
        if found is None:
            raise
        raise InputError(
            f"The image {found} of split {split.name!r} of dataset {split.dataset!r} cannot be decoded: it is "
            f"damaged, or not a {FORMATS} file."
        ) from error


def find_corrupt(split: Split) -> str | None:
    """The "id" of the first example of a `data.Split` whose image cannot be fully decoded, or None."""

    def place_and_size(place, example):
        image = decode_image(example["image"], split.rules)
        return place, tf.size(image)  # so that the decoding is not removed as unused

    places = split.read().enumerate().map(place_and_size, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    expected = 0
    for place, _ in places:
        if place != expected:
            break
        expected += 1
    for example in split.read().ignore_errors().skip(expected).take(1):
        return example["id"].numpy().decode()
    return None
