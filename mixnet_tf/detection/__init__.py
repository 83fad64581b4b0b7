"""Object detection: SSDLite on any of the networks, with its anchors, losses and detections.

In: a network, images with boxes.
Out: a Keras model that outputs encoded boxes and logits, and detections.
"""

from mixnet_tf.detection.anchors import anchor_boxes
from mixnet_tf.detection.boxes import CODE_SCALES, decode, encode, iou
from mixnet_tf.detection.detections import (
    IOU_THRESHOLD,
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    detect,
    scores_of,
    suppress,
    suppress_boxes,
)
from mixnet_tf.detection.losses import detection_losses
from mixnet_tf.detection.ssdlite import SSDLite, anchors_of, class_predictors, classes_of, is_detector
from mixnet_tf.detection.targets import anchor_targets

__all__ = [
    "CODE_SCALES",
    "IOU_THRESHOLD",
    "MAX_DETECTIONS",
    "SCORE_THRESHOLD",
    "SSDLite",
    "anchor_boxes",
    "anchor_targets",
    "anchors_of",
    "class_predictors",
    "classes_of",
    "decode",
    "detect",
    "detection_losses",
    "encode",
    "iou",
    "is_detector",
    "scores_of",
    "suppress",
    "suppress_boxes",
]
