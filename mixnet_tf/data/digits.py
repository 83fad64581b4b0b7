"""scikit-learn's 1,797 handwritten digits as a tfds dataset: real images without the network."""

import numpy as np
import tensorflow_datasets as tfds

from mixnet_tf.errors import MissingPackageError

_NUM_TRAIN = 1437
_MAX_INK = 16  # scikit-learn's pixels are counts from 0 to 16


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits of 8 x 8 pixels as PNG, in ten classes: 1,437 to train, 360 to test."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="The test set of the UCI ML hand-written digits datasets, as scikit-learn ships it.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        order = np.random.RandomState(0).permutation(1797)
        return {
            "train": self._generate_examples(order[:_NUM_TRAIN]),
            "test": self._generate_examples(order[_NUM_TRAIN:]),
        }

    def _generate_examples(self, indices):
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise MissingPackageError("The digits dataset needs scikit-learn: pip install scikit-learn.") from error
        digits = load_digits()
        for index in indices:
            pixels = np.round(digits.images[index] * (255 / _MAX_INK)).astype(np.uint8)
            yield int(index), {"image": pixels[..., np.newaxis], "label": int(digits.target[index])}
