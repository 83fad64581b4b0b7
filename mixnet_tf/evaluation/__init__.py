"""Evaluation: the accuracy or average precision of a model on a split, and the best checkpoint of a run."""

from mixnet_tf.evaluation.accuracy import build_evaluator, build_replica_evaluation, matched
from mixnet_tf.evaluation.average_precision import (
    COCO_METRICS,
    DetectionResult,
    build_detection_evaluator,
    build_detection_measurement,
)
from mixnet_tf.evaluation.best_model import (
    CHOSEN_ON,
    has_best,
    has_test_images,
    may_choose,
    noting_origin,
    update_best,
)
from mixnet_tf.evaluation.box_pictures import SHOWN_SCORE, detect_in_file, draw_boxes, draw_examples, draw_found
from mixnet_tf.evaluation.classifying import Classified, classify, classify_files
from mixnet_tf.evaluation.image_files import find_images
from mixnet_tf.evaluation.predictions_csv import Rows, check_csv, write_predictions
from mixnet_tf.evaluation.ranking import build_cross_entropy, is_among, top_classes
from mixnet_tf.evaluation.scores import MEAN_CLASS_ACCURACY, in_words, mean_over_classes, score, with_notes
from mixnet_tf.evaluation.watching import watch

__all__ = [
    "CHOSEN_ON",
    "MEAN_CLASS_ACCURACY",
    "COCO_METRICS",
    "Classified",
    "DetectionResult",
    "Rows",
    "SHOWN_SCORE",
    "build_cross_entropy",
    "build_detection_evaluator",
    "build_detection_measurement",
    "build_evaluator",
    "build_replica_evaluation",
    "check_csv",
    "classify",
    "classify_files",
    "detect_in_file",
    "draw_boxes",
    "draw_examples",
    "draw_found",
    "find_images",
    "has_best",
    "has_test_images",
    "in_words",
    "mean_over_classes",
    "is_among",
    "matched",
    "may_choose",
    "noting_origin",
    "score",
    "top_classes",
    "update_best",
    "watch",
    "with_notes",
    "write_predictions",
]
