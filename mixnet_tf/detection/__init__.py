"""Object detection: SSDLite on any of the networks, with its anchors, losses and detections.

In: a network, images with boxes.
Out: a Keras model that outputs encoded boxes and logits, and detections.
"""

from mixnet_tf.detection.anchors import anchor_boxes
from mixnet_tf.detection.boxes import CODE_SCALES, decode, encode, iou
from mixnet_tf.detection.detections import (
    LEAST_SCORE,
    MOST_DETECTIONS,
    MOST_OVERLAP,
    detect,
    scores_of,
    suppress,
)
from mixnet_tf.detection.losses import detection_losses
from mixnet_tf.detection.matching import match
from mixnet_tf.detection.ssdlite import SSDLite, anchors_of, class_predictors, classes_of, is_detector

__all__ = [
    "CODE_SCALES",
    "LEAST_SCORE",
    "MOST_DETECTIONS",
    "MOST_OVERLAP",
    "SSDLite",
    "anchor_boxes",
    "anchors_of",
    "class_predictors",
    "classes_of",
    "decode",
    "detect",
    "detection_losses",
    "encode",
    "iou",
    "is_detector",
    "match",
    "scores_of",
    "suppress",
]
