"""Anchors, codes, matches, losses and detections, against numbers by hand and plain numpy."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixnet_tf
from mixnet_tf.detection.anchors import anchor_boxes, shapes_at_a_position
from mixnet_tf.detection.boxes import decode, encode, iou
from mixnet_tf.detection.detections import scores_of, suppress
from mixnet_tf.detection.losses import detection_losses
from mixnet_tf.detection.ssdlite import anchors_of
from mixnet_tf.detection.targets import anchor_targets


def _random_boxes(rng, *shape):
    low = rng.uniform(0, 0.7, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.3, (*shape, 2))], -1).astype(np.float32)


def _iou(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(height, 0) * max(width, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def test_anchors_are_those_worked_out_by_hand():
    boxes = anchor_boxes([(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)])
    assert boxes.shape == (2034, 4) and boxes.dtype == np.float32
    # The first position of the first map: its center is half a cell, 0.025, from the corner.
    np.testing.assert_allclose(boxes[0], [-0.025, -0.025, 0.075, 0.075], atol=1e-6)  # scale 0.1
    flat, wide = 0.2 / math.sqrt(2) / 2, 0.2 * math.sqrt(2) / 2
    np.testing.assert_allclose(boxes[1], [0.025 - flat, 0.025 - wide, 0.025 + flat, 0.025 + wide], atol=1e-6)
    np.testing.assert_allclose(boxes[2], [0.025 - wide, 0.025 - flat, 0.025 + wide, 0.025 + flat], atol=1e-6)
    # The next position is one to the right, the twenty-first one down.
    np.testing.assert_allclose(boxes[3] - boxes[0], [0, 0.05, 0, 0.05], atol=1e-6)
    np.testing.assert_allclose(boxes[60] - boxes[0], [0.05, 0, 0.05, 0], atol=1e-6)
    # The second map, scale 0.35: ratios 1, 2, 1/2, 3, 1/3, and a square of sqrt(0.35 * 0.5).
    second = boxes[1200:1206]
    heights, widths = (second[:, 2] - second[:, 0]), (second[:, 3] - second[:, 1])
    roots = np.sqrt([1, 2, 1 / 2, 3, 1 / 3])
    np.testing.assert_allclose(heights, [*(0.35 / roots), math.sqrt(0.35 * 0.5)], rtol=1e-6)
    np.testing.assert_allclose(widths, [*(0.35 * roots), math.sqrt(0.35 * 0.5)], rtol=1e-6)
    np.testing.assert_allclose(second[:, :2] + second[:, 2:], 0.1, atol=1e-6)
    # The last map: one position, scale 0.95, and sqrt(0.95 * 1).
    np.testing.assert_allclose(boxes[-6], [0.025, 0.025, 0.975, 0.975], atol=1e-6)
    np.testing.assert_allclose(boxes[-1][2] - boxes[-1][0], math.sqrt(0.95), rtol=1e-6)
    assert [len(kinds) for kinds in shapes_at_a_position(6)] == [3, 6, 6, 6, 6, 6]


def test_overlaps_are_those_of_plain_arithmetic():
    rng = np.random.default_rng(0)
    boxes, others = _random_boxes(rng, 2, 7), _random_boxes(rng, 2, 5)
    found = iou(boxes, others).numpy()
    expected = [[[_iou(a, b) for b in others[n]] for a in boxes[n]] for n in range(2)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert iou(np.zeros((1, 4), "float32"), np.zeros((1, 4), "float32")).numpy() == 0


def test_a_code_is_shift_and_logarithm_relative_to_the_anchor():
    anchor, box = np.float32([[0.2, 0.2, 0.4, 0.6]]), np.float32([[0.3, 0.3, 0.7, 0.5]])
    # Centers (0.3, 0.4) and (0.5, 0.4), sizes (0.2, 0.4) and (0.4, 0.2).
    expected = [10 * 0.2 / 0.2, 0.0, 5 * math.log(2), 5 * math.log(0.5)]
    np.testing.assert_allclose(encode(box, anchor)[0], expected, atol=1e-5)
    rng = np.random.default_rng(1)
    boxes, anchors = _random_boxes(rng, 50), _random_boxes(rng, 50)
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-6)


def _matched(boxes, labels, anchors):
    """What each anchor has to find, in plain Python: the index of an object, or None."""
    objects = [n for n in range(len(boxes)) if labels[n] >= 0]
    found = []
    for anchor in anchors:
        overlaps = [_iou(boxes[n], anchor) for n in objects]
        best = int(np.argmax(overlaps)) if objects else None
        found.append(objects[best] if objects and overlaps[best] >= 0.5 else None)
    for n in reversed(objects):  # so that the first has the last word
        found[int(np.argmax([_iou(boxes[n], anchor) for anchor in anchors]))] = n
    return found


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_of_plain_python(seed):
    rng = np.random.default_rng(seed)
    anchors = anchor_boxes([(6, 6), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1)])
    boxes, labels = _random_boxes(rng, 4, 6), rng.integers(0, 5, (4, 6)).astype(np.int32)
    boxes[0, 1] = boxes[0, 0]  # two objects at one place have the same best anchor
    labels[1, 2:], boxes[1, 2:] = -1, rng.uniform(-3, 3, (4, 4))  # padding may be anything
    labels[2] = -1  # no object
    slots, codes = (tensor.numpy() for tensor in anchor_targets(boxes, labels, anchors))
    forced = 0
    for n in range(4):
        for a, found in enumerate(_matched(boxes[n], labels[n], anchors)):
            if found is None:
                assert slots[n, a] == 0
                np.testing.assert_array_equal(codes[n, a], 0)
            else:
                assert slots[n, a] == labels[n, found] + 1
                np.testing.assert_allclose(codes[n, a], encode(boxes[n, found], anchors[a]), atol=1e-5)
                forced += _iou(boxes[n, found], anchors[a]) < 0.5
    assert forced > 3 and np.all(slots[2] == 0)
    for n in (0, 1, 3):  # every object is found by some anchor, but for one that shares its best with another
        assert len(set(slots[n]) - {0}) >= len(set(labels[n][labels[n] >= 0])) - 1


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def case():
    """(logits, codes, slots, targets) of two images, the second without a match."""
    rng = np.random.default_rng(2)
    slots = np.zeros((2, 20), np.int32)
    slots[0, [3, 7]] = 1, 4
    shapes = ((2, 20, 5), (2, 20, 4), (2, 20, 4))
    logits, codes, targets = (rng.normal(0, 2, shape).astype(np.float32) for shape in shapes)
    return logits, codes, slots, targets


def test_the_focal_loss_and_hubers_are_those_of_plain_arithmetic(case):
    logits, codes, slots, targets = case
    classification, box, matches = (float(value) for value in detection_losses(*case))
    expected = 0.0
    for n, a, s in np.ndindex(logits.shape):
        p = _sigmoid(float(logits[n, a, s]))
        there = slots[n, a] == s
        expected += 0.75 * (1 - p) ** 2 * -math.log(p) if there else 0.25 * p**2 * -math.log(1 - p)
    assert classification == pytest.approx(expected, rel=1e-5)
    distances = [abs(float(codes[0, a, i] - targets[0, a, i])) for a in (3, 7) for i in range(4)]
    assert box == pytest.approx(sum(0.5 * d * d if d < 1 else d - 0.5 for d in distances), rel=1e-5)
    assert matches == 2


def test_hard_negatives_are_the_worst_three_of_each_match(case):
    logits, _, slots, _ = case
    p = _sigmoid(logits.astype(np.float64))
    there = slots[..., None] == np.arange(5)
    of_anchors = np.where(there, -np.log(p), -np.log(1 - p)).sum(-1)
    expected = of_anchors[slots > 0].sum()
    expected += np.sort(of_anchors[0][slots[0] == 0])[-6:].sum()  # two matches
    expected += np.sort(of_anchors[1])[-3:].sum()  # none: three all the same
    assert float(detection_losses(*case, "hard_negatives")[0]) == pytest.approx(expected, rel=1e-5)


def test_an_unknown_classification_loss_is_refused(case):
    with pytest.raises(ValueError, match="classification_loss: expected one of"):
        detection_losses(*case, "softmax")


def _suppressed(boxes, scores, score_threshold, iou_threshold):
    """Greedy suppression in plain Python: [(score, class, place)], the most probable first."""
    kept = []
    for c in range(scores.shape[1]):
        own = []
        for place in np.argsort(-scores[:, c], kind="stable"):
            fits = all(_iou(boxes[place], boxes[other]) <= iou_threshold for other in own)
            if fits and scores[place, c] > score_threshold:
                own.append(place)
        kept += [(scores[place, c], c, place) for place in own]
    return sorted(kept, key=lambda each: -each[0])


@pytest.mark.parametrize("thresholds", [(), (0.3, 0.9)])
def test_detections_are_those_of_plain_python(thresholds):
    rng = np.random.default_rng(3)
    anchors = _random_boxes(rng, 40)
    boxes = np.tile(_random_boxes(rng, 2, 10), (1, 4, 1))  # four near each place
    boxes = np.clip(boxes + rng.normal(0, 0.01, boxes.shape), 0.01, 0.99).astype(np.float32)
    logits = rng.normal(-1, 2, (2, 40, 3)).astype(np.float32)
    found = {
        name: value.numpy()
        for name, value in suppress(encode(boxes, anchors), scores_of(logits), anchors, *thresholds).items()
    }
    for n in range(2):
        expected = _suppressed(boxes[n], _sigmoid(logits[n, :, 1:]), *(thresholds or (1e-8, 0.6)))
        assert found["count"][n] == len(expected) < 80
        for place, (score, number, anchor) in enumerate(expected):
            assert found["scores"][n, place] == pytest.approx(score, rel=1e-5)
            assert found["classes"][n, place] == number
            np.testing.assert_allclose(found["boxes"][n, place], boxes[n, anchor], atol=1e-5)


def test_detect_is_the_models_outputs_suppressed(tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(tiny.DETECTOR_NETWORK))
    model = mixnet_tf.SSDLite(tmp_path / "small.json", 3, (64, 64, 3))
    images = tiny.images(2, 64, 64, 3)
    outputs = model(images)
    expected = suppress(outputs["boxes"], scores_of(outputs["logits"]), anchors_of(model))
    for name, value in mixnet_tf.detect(model, images).items():
        np.testing.assert_array_equal(value, expected[name])
    assert set(mixnet_tf.detect(model, images, score_threshold=0.9)["count"].numpy()) == {0}
    with pytest.raises(ValueError, match="iou_threshold: expected a number from 0 to 1, received 60"):
        mixnet_tf.detect(model, images, iou_threshold=60)
    assert expected["classes"].dtype == tf.int32 and tuple(expected["boxes"].shape) == (2, 100, 4)
