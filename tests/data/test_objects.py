"""Datasets of objects: the scenes of digits, what is left out, clipped and refused, and the batches of them."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mixnet_tf.data import (
    count_left_out,
    load_objects,
    load_split,
    naming_corrupt_images,
    train_object_batches,
)
from mixnet_tf.data.object_batches import augment_objects, random_object_window
from mixnet_tf.data.objects import LeftOut, _example
from mixnet_tf.data.scenes import DigitScenes, load_photographs
from mixnet_tf.data.split import Split
from mixnet_tf.recipe import Recipe

_NAN = float("nan")


class MadeObjects(tfds.core.GeneratorBasedBuilder):
    """Three images of 20 x 40 pixels in the form of VOC: with poses, and objects called difficult."""

    VERSION = tfds.core.Version("1.0.0")
    OBJECTS = (
        [((0.25, 0.25, 0.75, 0.5), 2, False), ((0.0, 0.0, 1.0, 1.0), 0, True)],
        [],
        [((0.5, 0.5, 0.5, 0.75), 1, False), ((0.5, 0.5, 0.75, 0.75), 1, False)],
    )

    def _info(self):
        features = {
            "bbox": tfds.features.BBoxFeature(),
            "pose": tfds.features.ClassLabel(num_classes=5),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
            "is_difficult": np.bool_,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"picture": tfds.features.Image(), "objects": tfds.features.Sequence(features)}
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "test": self._generate_examples()}

    def _generate_examples(self):
        for number, objects in enumerate(self.OBJECTS):
            listed = [
                {"bbox": tfds.features.BBox(*box), "pose": 4, "label": label, "is_difficult": difficult}
                for box, label, difficult in objects
            ]
            yield number, {"picture": np.full((20, 40, 3), number, np.uint8), "objects": listed}


def _image(height=20, width=40):
    return tf.io.encode_png(tf.zeros((height, width, 3), tf.uint8))


def _split(*examples):
    """A split of examples (boxes, labels, crowd, difficult), each on an image of 20 x 40 pixels and 3 classes."""

    def read(shuffle_seed=None, shard=0, num_shards=1):
        def generate():
            for boxes, labels, crowd, difficult in examples:
                yield np.reshape(np.float32(boxes), (-1, 4)), np.int64(labels), np.bool_(crowd), np.bool_(difficult)

        shapes = [tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.int64)]
        flags = [tf.TensorSpec((None,), tf.bool)] * 2
        made = tf.data.Dataset.from_generator(generate, output_signature=(*shapes, *flags)).enumerate()
        return made.map(
            lambda n, e: _example(_image(), e[0], e[1], e[2:], tf.strings.join(["file__", tf.as_string(n)]), 3)
        )

    return Split("made", "train", len(examples), ("a", "b", "c"), 3, read)


def test_objects_are_found_by_their_features(tmp_path):
    train = load_objects("made_objects", tmp_path, True)
    assert (train.name, train.num_examples, train.label_names, train.num_classes) == ("train", 3, ("a", "b", "c"), 3)
    assert load_objects("made_objects", tmp_path, False).name == "test"
    first, empty, last = train.read().as_numpy_iterator()
    np.testing.assert_array_equal(first["boxes"], [[0.25, 0.25, 0.75, 0.5]])
    assert first["labels"].tolist() == [2] and empty["boxes"].shape == (0, 4) and last["labels"].tolist() == [1]
    assert tf.io.decode_image(last["image"]).shape == (20, 40, 3) and first["id"].decode().startswith("made_objects-")
    assert count_left_out(train) == LeftOut(crowds=0, difficult=1, empty=1)


def test_a_dataset_without_boxes_is_refused(data_dir):
    with pytest.raises(ValueError, match=r"no image with a sequence of boxes .*\['image', 'label'\]"):
        load_objects("digits", data_dir, True)
    with pytest.raises(ValueError, match="no image with a class label"):
        load_split("made_objects", data_dir, True)


def test_each_object_is_left_out_for_one_reason():
    box = [0.1, 0.1, 0.5, 0.5]
    flat = [0.1, 0.1, 0.1, 0.5]
    split = _split(
        ([box, box, box, flat], [0, 1, 2, 0], [0, 1, 0, 0], [0, 0, 1, 0]),
        ([flat, flat], [0, 0], [1, 0], [1, 1]),
    )
    assert count_left_out(split) == LeftOut(crowds=2, difficult=2, empty=2 - 1)
    examples = list(split.read().as_numpy_iterator())
    assert [example["labels"].tolist() for example in examples] == [[0], []]


def test_up_to_a_pixel_past_the_image_is_clipped():
    # A pixel is 1/20 of the height, 1/40 of the width.
    [example] = _split(([[-0.05, -0.024, 1.049, 1.025]], [1], [0], [0])).read().as_numpy_iterator()
    np.testing.assert_array_equal(example["boxes"], [[0, 0, 1, 1]])
    # What lies outside altogether has no area then.
    outside = _example(_image(), [[0.2, 1.0, 0.4, 1.02]], [1], [None, None], "file__0", 3)
    assert LeftOut(*outside["left_out"].numpy()).empty == 1


_WRONG = (
    ([0.1, _NAN, 0.5, 0.5], 0, "0.1000, nan, 0.5000, 0.5000 and the label 0"),
    ([-0.06, 0.1, 0.5, 0.5], 0, "-0.0600, 0.1000, 0.5000, 0.5000 and"),
    ([0.1, 0.1, 0.5, 1.03], 0, "1.0300"),
    ([0.5, 0.1, 0.4, 0.5], 0, "0.5000, 0.1000, 0.4000"),
    ([0.1, 0.1, 0.5, 0.5], 3, "the label 3"),
    ([0.1, 0.1, 0.5, 0.5], -1, "the label -1"),
)


def test_a_box_or_label_that_cannot_be_is_named_with_its_place():
    good = [0.1, 0.1, 0.5, 0.5]
    for place, (box, label, shown) in enumerate(_WRONG):
        split = _split(([good], [0], [0], [0]), ([good, box], [0, label], [0, 0], [0, 0]))

        def read(split=split, box=box, label=label, through_a_pipeline=place == 0):
            if through_a_pipeline:
                return count_left_out(split)
            return _example(_image(), [good, box], [0, label], [None, None], "file__1", 3)

        with pytest.raises(ValueError) as raised, naming_corrupt_images(split):
            read()
        message = str(raised.value)
        assert message.startswith("Split 'train' of dataset 'made': Object 1 of file__1 has the box ")
        assert shown in message and message.endswith("and a label from 0 to 2.")


def test_scenes_hold_digits_in_exact_boxes_where_no_other_is():
    random = np.random.RandomState(0)
    builder = object.__new__(DigitScenes)
    for _ in range(50):
        scene, taken = np.full((160, 160, 3), 200.0), []
        for _ in range(4):
            before, ink = scene.copy(), np.zeros((60, 60))
            ink[10:50, 20:30] = 1.0
            box = builder._draw(random, scene, ink, (0, 80), taken)
            changed = np.argwhere((scene != before).any(-1))
            if box is None:
                assert not len(changed)
                continue
            assert tuple([*changed.min(0), *(changed.max(0) + 1)]) == box == (box[0], box[1], box[0] + 40, box[1] + 10)
            assert not any(
                min(box[2], other[2]) > max(box[0], other[0]) and min(box[3], other[3]) > max(box[1], other[1])
                for other in taken
            )
            assert scene[changed[0][0], changed[0][1]].max() <= 80  # its color
            taken.append(box)


def test_the_splits_of_the_scenes_share_neither_digits_nor_ground(monkeypatch):
    made = {}

    def note(self, split, indices, num_scenes, seed):
        made[split] = (set(indices), num_scenes, seed)

    monkeypatch.setattr(DigitScenes, "_generate_examples", note)
    object.__new__(DigitScenes)._split_generators(None)
    assert {split: number for split, (_, number, _) in made.items()} == {"train": 8000, "validation": 500, "test": 500}
    digits = [indices for indices, _, _ in made.values()]
    assert set().union(*digits) == set(range(1797)) and sum(map(len, digits)) == 1797
    ends = sorted(DigitScenes._COLUMNS.values())
    assert ends[0][0] == 0 and all(a[1] == b[0] for a, b in zip(ends, ends[1:], strict=False))
    assert [photograph.shape for photograph in load_photographs()] == [(427, ends[-1][1], 3)] * 2


def test_scenes_are_prepared_in_the_form_of_coco(small_scenes):
    train = load_objects("digit_scenes", small_scenes, True)
    assert (train.num_examples, train.label_names) == (80, tuple("0123456789"))
    examples = list(train.read().as_numpy_iterator())
    counts = [len(example["labels"]) for example in examples]
    assert min(counts) >= 1 and max(counts) <= 8 and len(set(counts)) > 3
    boxes = np.concatenate([example["boxes"] for example in examples])
    sizes = (boxes[:, 2:] - boxes[:, :2]) * 160
    assert sizes.max() <= 80 and sizes.min() >= 5 and boxes.min() >= 0 and boxes.max() <= 1
    darkest, lightest = zip(*(_ground(example) for example in examples), strict=True)
    is_dark = np.array(lightest) < 160
    assert 10 < is_dark.sum() < 70 and (np.array(darkest)[~is_dark] > 95).all()
    assert count_left_out(train) == LeftOut(0, 0, 0)
    assert load_objects("digit_scenes", small_scenes, False).name == "validation"


def _ground(example):
    """The darkest and the lightest value of a scene away from its digits."""
    image = tf.io.decode_jpeg(example["image"]).numpy()
    ground = np.ones(image.shape[:2], bool)
    for y0, x0, y1, x1 in np.round(example["boxes"] * 160).astype(int):
        ground[max(0, y0 - 16) : y1 + 16, max(0, x0 - 16) : x1 + 16] = False  # faint ink is outside the box
    return image[ground].min(), image[ground].max()


def test_a_prepared_image_is_whole_and_its_objects_are_padded():
    boxes, labels = np.float32([[0.1, 0.2, 0.3, 0.4]] * 120), np.arange(120, dtype=np.int32)
    plain = {"seed": (0, 0), "crop": False, "flip": False}
    image, targets = augment_objects({"image": _image(), "boxes": boxes, "labels": labels}, 16, **plain)
    assert image.shape == (16, 16, 3) and targets["boxes"].shape == (100, 4)
    assert targets["labels"].numpy().tolist() == list(range(100))
    _, targets = augment_objects({"image": _image(), "boxes": boxes[:2], "labels": labels[:2]}, 16, **plain)
    assert targets["labels"].numpy().tolist() == [0, 1] + [-1] * 98
    np.testing.assert_array_equal(targets["boxes"][:3], [*boxes[:2], [0, 0, 0, 0]])


def _marked(boxes, size=96):
    """An image that is white where the boxes are."""
    image = np.zeros((size, size, 3), np.uint8)
    for y0, x0, y1, x1 in np.round(np.array(boxes) * size).astype(int):
        image[y0:y1, x0:x1] = 255
    return tf.io.encode_png(image)


@pytest.mark.parametrize("crop, flip", [(False, False), (False, True), (True, False), (True, True)])
def test_boxes_go_with_the_image_through_every_augmentation(crop, flip):
    boxes = np.float32([[0.1, 0.1, 0.35, 0.3], [0.55, 0.6, 0.9, 0.8]])
    example = {"image": _marked(boxes), "boxes": tf.constant(boxes), "labels": tf.constant([4, 7])}
    augment = tf.function(lambda seed: augment_objects(example, 96, seed, crop, flip))
    seen, numbers = set(), []
    for seed in tf.stack([tf.range(40), tf.fill(40, 5)], 1):
        image, targets = (tf.nest.map_structure(np.array, value) for value in augment(seed))
        kept = targets["labels"] >= 0
        numbers.append(kept.sum())
        seen.add(image.tobytes())
        mask = np.zeros((96, 96), bool)
        for y0, x0, y1, x1 in np.round(targets["boxes"][kept] * 96).astype(int):
            mask[y0:y1, x0:x1] = True
        # Every box is white inside, but for the border that resizing blurs.
        inside = image[..., 0][mask]
        assert inside.size == 0 or (inside > 127).mean() > 0.85
        again = augment(seed)
        np.testing.assert_array_equal(again[0], image)
        np.testing.assert_array_equal(again[1]["boxes"], targets["boxes"])
    assert len(seen) == 2 ** (not crop and flip) if not crop else len(seen) > 20
    assert set(numbers) == ({2} if not crop else set(numbers) | {1, 2})


def test_an_object_stays_where_its_center_is_in_the_crop():
    boxes = np.float32([[0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]])
    example = {"image": _marked(boxes), "boxes": tf.constant(boxes), "labels": tf.constant([4, 7])}
    for seed in range(20):
        y, x, height, width = (
            float(value) / 96 for value in random_object_window(tf.constant([96, 96, 3]), tf.constant(boxes), (seed, 5))
        )
        _, targets = augment_objects(example, 96, (seed, 5), flip=False)
        expected = [
            label for label, center in ((4, 0.2), (7, 0.75)) if y < center < y + height and x < center < x + width
        ]
        assert [label for label in targets["labels"].numpy() if label >= 0] == expected
        found = targets["boxes"].numpy()[: len(expected)]
        assert found.min(initial=0) >= 0 and found.max(initial=1) <= 1


def test_one_window_of_seven_is_the_whole_image():
    shape, boxes = tf.constant([50, 80, 3]), tf.constant([[0.1, 0.1, 0.3, 0.3]])
    window = tf.function(lambda seed: random_object_window(shape, boxes, seed))
    windows = [tuple(window(seed).numpy()) for seed in tf.stack([tf.range(300), tf.ones(300, tf.int32)], 1)]
    assert 20 < windows.count((0, 0, 50, 80)) < 90
    assert random_object_window(shape, boxes[:0], (3, 1)).shape == (4,)


@pytest.mark.parametrize("places", [(5,), pytest.param((1, 4), marks=pytest.mark.soak)])  # batches; 4 are an epoch
def test_training_batches_follow_from_the_place_in_training(places, small_scenes):
    split, recipe = load_objects("digit_scenes", small_scenes, True), Recipe(image_size=32, seed=3)
    batches = train_object_batches(split, recipe, 20)
    all_of_them = list(batches.take(6))
    images, targets = all_of_them[0]
    assert images.shape == (20, 32, 32, 3) and targets["boxes"].shape == (20, 100, 4)
    for first in places:
        later, found = next(iter(train_object_batches(split, recipe, 20, first_image=20 * first)))
        np.testing.assert_array_equal(later, all_of_them[first][0])
        np.testing.assert_array_equal(found["labels"], all_of_them[first][1]["labels"])
    assert not np.array_equal(all_of_them[0][0], all_of_them[4][0])
