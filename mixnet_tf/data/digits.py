"""scikit-learn's 1,797 handwritten digits as tfds datasets: real images without a download."""

import numpy as np
import tensorflow_datasets as tfds

from mixnet_tf.errors import MissingPackageError

_NUM_DIGITS = 1797
_MAX_INK = 16  # scikit-learn's pixels are counts from 0 to 16
NAMES = [str(digit) for digit in range(10)]
HOMEPAGE = "https://archive.ics.uci.edu/dataset/80"
SOURCE = "the test set of the UCI ML hand-written digits datasets, as scikit-learn ships it"


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits of 8 x 8 pixels as PNG, in ten classes: 1,437 to train, 360 to test."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return _dataset_info(self, f"{SOURCE[0].upper()}{SOURCE[1:]}.", pixels=8)

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        order = digit_order()
        return {
            "train": self._generate_examples(order[:1437]),
            "test": self._generate_examples(order[1437:]),
        }

    def _generate_examples(self, indices):
        ink, labels = load_ink()
        for index in indices:
            yield int(index), _example(ink[index], labels[index])


class ScatteredDigits(tfds.core.GeneratorBasedBuilder):
    """Digits of any size anywhere on a noisy canvas of 64 x 64 pixels, among pieces of other digits; ten classes.

    8,000 training images, 2,000 validation images and 2,000 test images, made of 1,197, 300 and 300 digits. No digit or
    piece of one is in two splits.
    """

    VERSION = tfds.core.Version("1.0.0")

    _PIXELS = 64  # side of the canvas, pixels
    _SIZES = (14, 32)  # smallest and largest side of the digit, pixels
    _PIECES = 4  # number of quarters of other digits
    _STRENGTHS = (0.5, 1.0)  # strength of the ink
    _BACKGROUND, _NOISE = 0.15, 0.12  # mean and standard deviation of the noise

    def _info(self):
        return _dataset_info(
            self, f"Digits of {SOURCE}, scattered over noisy canvases among pieces of others.", self._PIXELS
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        train, validation, test = np.split(digit_order(), [1197, 1497])
        return {
            "train": self._generate_examples(train, 8000, seed=1),
            "validation": self._generate_examples(validation, 2000, seed=2),
            "test": self._generate_examples(test, 2000, seed=3),
        }

    def _generate_examples(self, indices, num_images, seed):
        ink, labels = load_ink()
        random = np.random.RandomState(seed)  # numpy guarantees that its numbers stay the same
        for number in range(num_images):
            index = random.choice(indices)
            yield (
                number,
                _example(self._canvas(random, ink[index], ink[random.choice(indices, self._PIECES)]), labels[index]),
            )

    def _canvas(self, random, digit, others):
        """A canvas with a digit and a quarter of each of the others; ink is from 0 to 1."""
        canvas = np.zeros((self._PIXELS, self._PIXELS))
        for other in others:
            top, left = random.randint(0, 5, 2)
            self._draw(random, canvas, other[top : top + 4, left : left + 4], self._side(random) // 2)
        self._draw(random, canvas, digit, self._side(random))
        noise = random.normal(self._BACKGROUND, self._NOISE, canvas.shape)
        return np.clip((1 - self._BACKGROUND) * canvas + noise, 0, 1)

    def _side(self, random):
        smallest, largest = self._SIZES
        return random.randint(smallest, largest + 1)

    def _draw(self, random, canvas, ink, side):
        """Draws ink at a random position with a random strength, where the canvas is lighter."""
        top, left = random.randint(0, self._PIXELS - side + 1, 2)
        place = canvas[top : top + side, left : left + side]
        np.maximum(place, random.uniform(*self._STRENGTHS) * resized(ink, side), out=place)


def _dataset_info(builder, description, pixels):
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(pixels, pixels, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=NAMES),
            }
        ),
        supervised_keys=("image", "label"),
        homepage=HOMEPAGE,
    )


def digit_order() -> np.ndarray:
    """A fixed order of all digits, which decides the split of each digit in every dataset."""
    return np.random.RandomState(0).permutation(_NUM_DIGITS)


def load_ink() -> tuple[np.ndarray, np.ndarray]:
    """The ink of all digits, float64 (1797, 8, 8) from 0 to 1, and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackageError("The digits dataset needs scikit-learn: pip install scikit-learn.") from error
    digits = load_digits()
    return digits.images / _MAX_INK, digits.target


def _example(ink, label):
    return {"image": np.round(ink * 255).astype(np.uint8)[..., np.newaxis], "label": int(label)}


def resized(ink: np.ndarray, side: int) -> np.ndarray:
    """Resizes a square of ink bilinearly.

    Args:
        ink: (pixels, pixels).
        side: New size, pixels.

    Returns:
        (side, side).
    """
    places = np.clip((np.arange(side) + 0.5) * len(ink) / side - 0.5, 0, len(ink) - 1)
    weights = np.maximum(0, 1 - np.abs(places[:, np.newaxis] - np.arange(len(ink))))  # (side, len(ink))
    return weights @ ink @ weights.T
