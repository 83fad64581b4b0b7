"""COCO's twelve numbers of a detector: against pycocotools, with COCO's own annotations, every image once."""

import contextlib
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixnet_tf
from mixnet_tf.data import Split
from mixnet_tf.data.objects import _example
from mixnet_tf.detection import anchors_of, encode
from mixnet_tf.evaluation import COCO_METRICS, build_detection_evaluator, build_detection_measurement

pytest.importorskip("faster_coco_eval")
_SIZES = [(100, 200), (150, 100), (64, 64), (300, 200), (128, 96)]  # of the images, pixels
_NAMES = ("cat", "dog", "cow")


@pytest.fixture(scope="module")
def truth():
    """Boxes and labels of each image; the third has none."""
    rng = np.random.default_rng(0)
    found = []
    for count in (4, 3, 0, 6, 2):
        low = rng.uniform(0, 0.6, (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.05, 0.4, (count, 2))], -1).astype(np.float32)
        found.append((boxes, rng.integers(0, 3, count)))
    return found


@pytest.fixture(scope="module")
def split(truth):
    def read(shuffle_seed=None, shard=0, num_shards=1):
        def generate():
            for number, ((height, width), (boxes, labels)) in enumerate(zip(_SIZES, truth, strict=True)):
                image = tf.io.encode_png(np.full((height, width, 3), 10 * number, np.uint8)).numpy()
                yield image, boxes, labels, 1000 + number

        specs = [((), tf.string), ((None, 4), tf.float32), ((None,), tf.int64), ((), tf.int64)]
        made = tf.data.Dataset.from_generator(generate, output_signature=tuple(tf.TensorSpec(*spec) for spec in specs))
        return made.map(
            lambda image, boxes, labels, number: {
                **_example(image, boxes, labels, [None, None], "x", 3),
                "image_id": number,
            }
        )

    return Split("made", "test", len(_SIZES), _NAMES, 3, read)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A detector of random weights."""
    path = tmp_path_factory.mktemp("network") / "small.json"
    path.write_text(json.dumps(tiny.DETECTOR_NETWORK))
    return mixnet_tf.SSDLite(str(path), 3, (64, 64, 3))


@pytest.fixture(scope="module")
def detector(truth, network):
    """A detector whose answers follow from the image: near each object, with some wrong and some missing."""
    anchors, rng = anchors_of(network), np.random.default_rng(1)
    codes, logits = np.zeros((5, len(anchors), 4)), np.full((5, len(anchors), 4), -9.0)
    for number, (boxes, labels) in enumerate(truth):
        for place, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            for copy in range(2):
                anchor = 7 * place + copy
                moved = box + rng.normal(0, 0.02, 4).astype(np.float32)
                codes[number, anchor] = encode(moved, anchors[anchor])
                logits[number, anchor, 1 + (label + (rng.random() < 0.2)) % 3] = rng.normal(0, 1)

    def answers(images):  # the number of an image is in its pixels
        number = tf.cast(tf.round(images[:, 0, 0, 0] / 10), tf.int32)
        return tf.gather(tf.constant(codes, tf.float32), number), tf.gather(tf.constant(logits, tf.float32), number)

    class Answers(keras.Model):
        layers = network.layers
        input_shape = network.input_shape
        get_layer = network.get_layer

        def call(self, images, training=False):
            boxes, scores = answers(images)
            return {"boxes": boxes, "logits": scores}

    return Answers(name="answers")


def _evaluator(*args, **kwargs):
    """The evaluator without its notes: the model here has no names."""
    evaluate = build_detection_evaluator(*args, **kwargs)
    return lambda: {name: value for name, value in evaluate().items() if name != "notes"}


def _expected(found, truth):
    """The same by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, annotations, rows = [], [], []
    for number, ((height, width), (boxes, labels)) in enumerate(zip(_SIZES, truth, strict=True)):
        images.append({"id": number, "height": height, "width": width})
        for (y0, x0, y1, x1), label in zip(np.float64(boxes), labels, strict=True):
            box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": int(label), "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
        for n in range(int(found["count"][number])):
            y0, x0, y1, x1 = np.float64(found["boxes"][number, n])
            box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
            score, label = float(found["scores"][number, n]), int(found["classes"][number, n])
            rows.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": annotations, "categories": [{"id": n} for n in range(3)]}
        coco.createIndex()
        measured = COCOeval(coco, coco.loadRes(rows), "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return measured.stats


@pytest.fixture(scope="module")
def looked(detector, split):
    """The result of batches of two images, and what was shown of each image."""
    seen = []
    result = build_detection_measurement(
        detector, split, 2, look=lambda image, example, found: seen.append((image[0, 0, 0], example, found))
    )()
    return result, seen


def test_the_twelve_numbers_are_those_of_pycocotools(detector, truth, split, found, plain, looked):
    expected = _expected({name: value.numpy() for name, value in found(None).items()}, truth)
    all_at_once = build_detection_evaluator(detector, split)()
    assert looked[0].metrics == all_at_once
    del all_at_once["notes"]  # the model here has no names
    assert all_at_once == pytest.approx(plain)
    assert all_at_once.pop("num_images") == 5 and tuple(all_at_once) == COCO_METRICS
    np.testing.assert_allclose(list(all_at_once.values()), expected, atol=1e-6)
    assert 0.2 < all_at_once["AP"] < 0.95 and all_at_once["AP50"] > all_at_once["AP"]


def test_a_detector_that_finds_nothing_has_an_ap_of_0(detector, split):
    nothing = {
        "boxes": np.zeros((5, 100, 4)), "scores": np.zeros((5, 100)),
        "classes": np.zeros((5, 100), int), "count": np.zeros(5, int),
    }  # fmt: skip
    assert build_detection_evaluator(detector, split, predict=lambda images: nothing)()["AP"] == 0


def test_precision_is_told_by_class_and_every_image_is_shown_to_who_looks(truth, looked):
    result, seen = looked
    assert result.average_precision.mean() == pytest.approx(result.metrics["AP"])
    assert result.precision.mean() == pytest.approx(result.metrics["AP50"])
    assert result.precision.shape == (3, 101) and len(set(result.average_precision)) == 3
    assert [round(float(color)) for color, _, _ in seen] == [0, 10, 20, 30, 40]
    for (_, example, found), (boxes, labels) in zip(seen, truth, strict=True):
        there = example["labels"] >= 0
        np.testing.assert_array_equal(example["labels"][there], labels)
        np.testing.assert_allclose(example["boxes"][there], boxes)
        assert found["boxes"].shape == (len(found["scores"]), 4)


def _cocos_annotations(truth):
    """What COCO's file has of these images: images from 1000 on and one that is not in the split, categories of 90, 89
    and 88, and one more.
    """
    images, annotations = [{"id": 7, "height": 9, "width": 9}], []
    for number, ((height, width), (boxes, labels)) in enumerate(zip(_SIZES, truth, strict=True)):
        images.append({"id": 1000 + number, "height": height, "width": width})
        for (y0, x0, y1, x1), label in zip(np.float64(boxes).tolist(), labels, strict=True):
            box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": 1000 + number, "category_id": 90 - int(label), "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    categories = [{"id": 90 - n, "name": name} for n, name in enumerate(_NAMES)] + [{"id": 3, "name": "more"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture(scope="module")
def found(detector):
    """What the detector finds, for every image: batches of one size have all five."""
    answers = mixnet_tf.detect(detector, np.stack([np.full((64, 64, 3), 10 * n, np.float32) for n in range(5)]))
    return lambda images: answers


@pytest.fixture(scope="module")
def plain(detector, split, found):
    """The metrics by the split's own boxes."""
    return _evaluator(detector, split, predict=found)()


@pytest.fixture
def measure_with(detector, truth, split, found, tmp_path):
    """A function that measures against COCO's own annotations, some of their keys changed, and gives the metrics."""
    path = tmp_path / "instances.json"

    def measure(split=split, **changes):
        path.write_text(json.dumps({**_cocos_annotations(truth), **changes}))
        return _evaluator(detector, split, annotations=path, predict=found)()

    return measure


def test_with_cocos_annotations_the_classes_are_found_by_name_and_crowds_are_theirs(
    detector, truth, split, plain, measure_with, tmp_path
):
    images, annotations, categories = _cocos_annotations(truth).values()
    assert measure_with() == pytest.approx(plain)
    crowds = [{**annotation, "iscrowd": int(annotation["id"] == 1)} for annotation in annotations]
    assert measure_with(annotations=crowds)["AR100"] != pytest.approx(plain["AR100"])
    with pytest.raises(ValueError, match=r"has no categories \['cow'\]; it has \['cat', 'dog'\]"):
        measure_with(categories=categories[:2])
    with pytest.raises(ValueError, match=r"has no images \[1004\], which are in the split"):
        measure_with(images=images[:-1], annotations=[a for a in annotations if a["image_id"] != 1004])
    for content in ("[]", '{"categories": [], "images": []}', '{"categories": [], "images": [], "annotations": 1}'):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(ValueError, match="is not a file of COCO's object annotations"):
            _evaluator(detector, split, annotations=tmp_path / "other.json")


@pytest.mark.parametrize("number", [lambda place: place, lambda place: 7], ids=["from 0", "all equal"])
def test_annotations_count_whatever_their_numbers_are(number, truth, plain, measure_with):
    annotations = _cocos_annotations(truth)["annotations"]
    renumbered = [{**annotation, "id": number(place)} for place, annotation in enumerate(annotations)]
    assert measure_with(annotations=renumbered) == pytest.approx(plain)


def test_a_category_numbered_0_counts_as_any_other(truth, plain, measure_with):
    annotations = [{**a, "category_id": 90 - a["category_id"]} for a in _cocos_annotations(truth)["annotations"]]
    categories = [{"id": number, "name": name} for number, name in enumerate(_NAMES)]
    assert measure_with(annotations=annotations, categories=categories) == pytest.approx(plain)


def test_categories_of_one_name_are_told_apart_by_their_numbers(truth, split, plain, measure_with):
    named = split._replace(label_names=("crane", "dog", "crane"))
    annotations = [{**a, "category_id": 100 - a["category_id"]} for a in _cocos_annotations(truth)["annotations"]]
    categories = [(12, "crane"), (3, "more"), (10, "crane"), (11, "dog")]  # 10, 11 and 12 are classes 0, 1 and 2

    def measure(categories):
        listed = [{"id": number, "name": name} for number, name in categories]
        return measure_with(named, annotations=annotations, categories=listed)

    assert measure(categories) == pytest.approx(plain)
    for ambiguous in (
        [(10, "crane"), (12, "crane"), (13, "dog")],  # classes 0 and 2 could be either
        [(10, "crane"), (11, "dog")],
        [(10, "crane"), (11, "dog"), (12, "crane"), (13, "crane")],
    ):
        with pytest.raises(ValueError, match=r"several classes or categories are named \['crane'\]") as refused:
            measure(ambiguous)
        assert "the split's classes are ['crane', 'dog', 'crane']" in str(refused.value)
    with pytest.raises(ValueError, match=r"several categories the same number: \[10\]"):
        measure([(10, "crane"), (10, "dog"), (12, "crane")])


def test_another_number_of_classes_is_refused(detector, split):
    with pytest.raises(ValueError, match="The model has 3 classes, but dataset 'made' has 4"):
        _evaluator(detector, split._replace(num_classes=4))


def test_a_detector_that_finds_nothing_has_no_precision(network, split):
    for number in range(6):
        layer = network.get_layer(f"logits_{number}_conv")
        layer.kernel.assign(tf.zeros_like(layer.kernel))
        layer.bias.assign(tf.fill(layer.bias.shape, -100.0))
    assert _evaluator(network, split)()["AP"] == 0
