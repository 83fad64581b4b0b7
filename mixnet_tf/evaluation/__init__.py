"""Evaluation: the accuracy or average precision of a model on a split, and the best checkpoint of a run."""

from mixnet_tf.evaluation.accuracy import build_evaluator, classify, matched
from mixnet_tf.evaluation.average_precision import (
    COCO_METRICS,
    DetectionResult,
    build_detection_evaluator,
    build_detection_measurement,
)
from mixnet_tf.evaluation.box_pictures import SHOWN_SCORE, detect_in_file, draw_boxes, draw_examples, draw_found
from mixnet_tf.evaluation.ranking import build_cross_entropy, is_among, top_classes
from mixnet_tf.evaluation.scores import in_words, with_notes
from mixnet_tf.evaluation.watching import update_best_with_final, watch

__all__ = [
    "COCO_METRICS",
    "DetectionResult",
    "SHOWN_SCORE",
    "build_cross_entropy",
    "build_detection_evaluator",
    "build_detection_measurement",
    "build_evaluator",
    "classify",
    "detect_in_file",
    "draw_boxes",
    "draw_examples",
    "draw_found",
    "in_words",
    "is_among",
    "matched",
    "top_classes",
    "update_best_with_final",
    "watch",
    "with_notes",
]
