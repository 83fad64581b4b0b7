"""Digits in photographs as a tfds dataset for object detection: exact boxes without a download."""

import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mixnet_tf.data.digits import HOMEPAGE, NAMES, SOURCE, digit_order, load_ink, resized

_PHOTOGRAPHS = ("china.jpg", "flower.jpg")  # scikit-learn's


class DigitScenes(tfds.core.GeneratorBasedBuilder):
    """Up to eight handwritten digits of any size, anywhere on crops of two photographs, in the form of COCO.

    The digits are light on a darkened photograph, or dark on a lightened one. There are 8,000 training scenes of
    160 x 160 pixels, 500 validation scenes and 500 test scenes. The splits share neither digits (1,197, 300 and 300)
    nor columns of the photographs.
    """

    VERSION = tfds.core.Version("1.0.0")

    _PIXELS = 160  # side of a scene, pixels
    _MAX_DIGITS = 8
    _SIDES = (32, 80)  # sides of the squares that digits are drawn in, pixels
    _CROPS = (80, 160)  # sides of the crops of a photograph, pixels
    _GROUND = 0.5  # fraction of the range of colors that a photograph keeps
    _DARK, _LIGHT = (0, 80), (175, 255)  # colors of digits
    _COLUMNS = {"train": (0, 320), "validation": (320, 480), "test": (480, 640)}
    _TRIES = 20  # attempts to place a digit without overlap
    _INK = 0.2  # ink from which a pixel belongs to the digit

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Digits of {SOURCE}, on crops of its photographs.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(self._PIXELS, self._PIXELS, 3), encoding_format="jpeg"),
                    "image/id": np.int64,
                    "objects": tfds.features.Sequence(
                        {
                            "area": np.int64,
                            "bbox": tfds.features.BBoxFeature(),
                            "id": np.int64,
                            "is_crowd": np.bool_,
                            "label": tfds.features.ClassLabel(names=NAMES),
                        }
                    ),
                }
            ),
            homepage=HOMEPAGE,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        train, validation, test = np.split(digit_order(), [1197, 1497])
        return {
            "train": self._generate_examples("train", train, 8000, seed=1),
            "validation": self._generate_examples("validation", validation, 500, seed=2),
            "test": self._generate_examples("test", test, 500, seed=3),
        }

    def _generate_examples(self, split, indices, num_scenes, seed):
        ink, labels = load_ink()
        first, end = self._COLUMNS[split]
        photographs = [photograph[:, first:end] for photograph in load_photographs()]
        random = np.random.RandomState(seed)  # numpy guarantees that its numbers stay the same
        for number in range(num_scenes):
            is_dark = bool(random.randint(2))
            scene = self._background(random, photographs) * self._GROUND + (0 if is_dark else 255 * (1 - self._GROUND))
            colors = self._LIGHT if is_dark else self._DARK
            boxes: list[tuple[int, ...]] = []
            objects: list[dict] = []
            for index in random.choice(indices, random.randint(1, self._MAX_DIGITS + 1), replace=False):
                side = random.randint(self._SIDES[0], self._SIDES[1] + 1)
                box = self._draw(random, scene, resized(ink[index], side), colors, boxes)
                if box is not None:
                    objects.append(self._object(box, number * self._MAX_DIGITS + len(objects), int(labels[index])))
                    boxes.append(box)
            image = np.round(scene).astype(np.uint8)
            yield number, {"image": image, "image/id": number, "objects": objects}

    def _background(self, random, photographs):
        """A square crop of a photograph, perhaps mirrored: float64 (pixels, pixels, 3) from 0 to 255."""
        photograph = photographs[random.randint(len(photographs))]
        side = random.randint(self._CROPS[0], self._CROPS[1] + 1)
        top, left = (random.randint(0, size - side + 1) for size in photograph.shape[:2])
        crop = photograph[top : top + side, left : left + side][:, :: random.choice((1, -1))]
        return np.stack([resized(crop[..., channel], self._PIXELS) for channel in range(3)], -1)

    def _draw(self, random, scene, ink, colors, taken):
        """Draws a digit that overlaps no other.

        Args:
            random: The random generator.
            scene: The scene to draw on.
            ink: (side, side) from 0 to 1.
            colors: The range of each channel.
            taken: Boxes of the other digits.

        Returns:
            (y0, x0, y1, x1) around its ink, pixels; None if there was no space and nothing was drawn.
        """
        rows, columns = (np.flatnonzero((ink >= self._INK).any(axis=axis)) for axis in (1, 0))
        around = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
        for _ in range(self._TRIES):
            top, left = random.randint(0, self._PIXELS - len(ink) + 1, 2)
            box = around + (top, left, top, left)
            if not any(_overlap(box, other) for other in taken):
                break
        else:
            return None
        place = scene[top : top + len(ink), left : left + len(ink)]
        place += ink[..., np.newaxis] * (random.uniform(*colors, 3) - place)
        return tuple(box.tolist())

    def _object(self, box, number, label):
        y0, x0, y1, x1 = box
        bbox = tfds.features.BBox(*(value / self._PIXELS for value in box))
        return {"area": (y1 - y0) * (x1 - x0), "bbox": bbox, "id": number, "is_crowd": False, "label": label}


def _overlap(box, other):
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def load_photographs() -> list[np.ndarray]:
    """scikit-learn's two photographs, uint8 (427, 640, 3) each."""
    import sklearn.datasets  # only `load_ink` says what to install; a builder calls it first

    folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    return [tf.io.decode_jpeg(tf.io.read_file(str(folder / name))).numpy() for name in _PHOTOGRAPHS]
