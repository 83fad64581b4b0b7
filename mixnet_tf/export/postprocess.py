"""Decoding and suppression of a detector's boxes: by TensorFlow Lite's own op, by builtin ops, or by the client."""

import numbers
from typing import Any, NamedTuple

import flatbuffers
import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.detection import CODE_SCALES, MAX_DETECTIONS, anchors_of, classes_of
from mixnet_tf.export.metadata import BOXES, LABELS_OF_AXIS, LABELS_OF_VALUES, Byte, Int32, Output, table, vector
from mixnet_tf.export.pieces import concat
from mixnet_tf.export.rewrite import AsWritten

LOCATION, CATEGORY, SCORE, COUNT = "location", "category", "score", "count"  # with the op, in the order of the file
CODES, SCORES = "boxes", "scores"  # without it
DETECTOR_METADATA = "DETECTOR_METADATA"
_OP = "TFLite_Detection_PostProcess"


class Decoding(NamedTuple):
    """How a detector's outputs become boxes.

    Attributes:
        anchors: float32 (anchors, 4): y0, x0, y1, x1 as fractions of the image.
        scales: Scales of the encoded y, x, height and width.
        classes: Number of classes, without the background of slot 0.
        max_detections: Detections of an image.
        iou_threshold: Overlap above which the less probable of two boxes of a class is dropped.
        score_threshold: Score below which a detection is left out.
    """

    anchors: np.ndarray
    scales: tuple[float, float, float, float]
    classes: int
    max_detections: int
    iou_threshold: float
    score_threshold: float

    @property
    def centers(self) -> np.ndarray:
        """The anchors as float32 (anchors, 4): center y, center x, height, width."""
        low, high = self.anchors[:, :2], self.anchors[:, 2:]
        return np.concatenate([(low + high) / 2, high - low], -1).astype(np.float32)


def decoding_of(model: keras.Model, score_threshold: float, iou_threshold: float) -> Decoding:
    """The `Decoding` of an `SSDLite`."""
    anchors, classes = anchors_of(model), classes_of(model)
    return Decoding(anchors, CODE_SCALES, classes, MAX_DETECTIONS, iou_threshold, score_threshold)


class Joined(tf.Module):
    """A detector that concatenates the outputs of its feature maps in float32, so that in int8 each has its own scale.

    The converter gives all inputs of a concatenation the same scale, the coarsest, even if the concatenation stays
    float32. Therefore they are multiplied before it and divided after it, which is exact: by 1 and 2 in turns, because
    the converter would remove a single factor.

    Args:
        function: An `AsWritten`, of images to a dict of the outputs of each feature map, named by `part`.
        maps: Dict from an output's name to a list of its feature maps.
    """

    def __init__(self, function: AsWritten, maps: dict[str, list]) -> None:
        super().__init__(name="joined")
        self._function, self._numbers = function, {name: len(parts) for name, parts in maps.items()}

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = self._function(images)
        joined = {}
        for name, number in self._numbers.items():
            answers = [found[part(name, place)] for place in range(number)]
            factors = tf.constant([1.0 + place % 2 for place in range(answers[0].shape[-1])])
            joined[name] = concat([answer * factors for answer in answers], axis=1) * (1 / factors)
        return joined


def part(name: str, place: int) -> str:
    """The name of the output of one feature map."""
    return f"{name}_of_map_{place}"


class Raw(tf.Module):
    """A detector that outputs encoded boxes and scores, without the background.

    Args:
        function: An `AsWritten` or a `Joined`, of images to a dict of "boxes" and "logits".
    """

    def __init__(self, function: AsWritten | Joined) -> None:
        super().__init__(name="raw")
        self._function = function  # whose variables a SavedModel finds here

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = self._function(images)
        return {CODES: found["boxes"], SCORES: tf.sigmoid(found["logits"][..., 1:])}


class Decoded(tf.Module):
    """A detector that outputs decoded boxes and scores of every anchor, without the background.

    Boxes may reach beyond the image, so that suppression finds the overlaps that `detect` finds; it clips them
    afterwards.

    Args:
        function: As `Raw` takes it.
        decoding: The detector's `Decoding`.
    """

    def __init__(self, function: AsWritten | Joined, decoding: Decoding) -> None:
        super().__init__(name="decoded")
        self._function = function
        centers, sizes = decoding.centers[:, :2], decoding.centers[:, 2:]
        scales = np.array(decoding.scales, np.float32)
        self._centers, self._halves = tf.constant(centers), tf.constant(sizes / 2)
        self._shift_units, self._factor_units = tf.constant(sizes / scales[:2]), tf.constant(1 / scales[2:])

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = self._function(images)
        codes = found["boxes"]
        centers = codes[..., :2] * self._shift_units + self._centers
        halves = tf.exp(codes[..., 2:] * self._factor_units) * self._halves
        return {
            LOCATION: concat([centers - halves, centers + halves]),
            SCORES: tf.sigmoid(found["logits"][..., 1:]),
        }


class Suppressed(tf.Module):
    """A detector followed by TensorFlow Lite's own op, which decodes and suppresses boxes.

    The op is a stand-in that computes nothing; the converter replaces it.

    Args:
        function: As `Raw` takes it.
        decoding: The detector's `Decoding`.
    """

    def __init__(self, function: AsWritten | Joined, decoding: Decoding) -> None:
        super().__init__(name="suppressed")
        self._function, self._centers = function, decoding.centers
        shapes = ((1, decoding.max_detections, 4), (1, decoding.max_detections), (1, decoding.max_detections), (1,))

        @tf.function(experimental_implements=f'name: "{_OP}" {_attributes(decoding)}', autograph=False)
        def stand_in(codes, scores, anchors):
            return tuple(tf.zeros(shape) for shape in shapes)

        self._stand_in = stand_in

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = self._function(images)
        detections = self._stand_in(found["boxes"], tf.sigmoid(found["logits"]), tf.constant(self._centers))
        return dict(zip((LOCATION, CATEGORY, SCORE, COUNT), detections, strict=True))


def _attributes(decoding):
    y, x, height, width = decoding.scales
    attributes = {
        "max_detections": decoding.max_detections,
        "max_classes_per_detection": 1,  # of the fast suppression
        "detections_per_class": decoding.max_detections,
        "use_regular_nms": True,  # of each class alone, as in Keras
        "nms_score_threshold": decoding.score_threshold,
        "nms_iou_threshold": decoding.iou_threshold,
        "num_classes": decoding.classes,
        "y_scale": y,
        "x_scale": x,
        "h_scale": height,
        "w_scale": width,
    }
    return " ".join(f'attr {{ key: "{key}" value {{ {_value(value)} }} }}' for key, value in attributes.items())


def _value(value):
    kind = "b" if isinstance(value, bool) else "i" if isinstance(value, numbers.Integral) else "f"
    return f"{kind}: {str(value).lower()}"


def described(name: str, decoding: Decoding) -> Output:
    """What the metadata says of an output; the names in it are those that MediaPipe looks for."""
    suppressed = f"The probability of each box, from {decoding.score_threshold:g}."
    of_anchors = "The probability of each class at each anchor."
    return {
        LOCATION: Output("location", "y0, x0, y1, x1 as fractions of the image.", BOXES),
        CATEGORY: Output("category", "The class of each box.", labels=LABELS_OF_VALUES),
        SCORE: Output("score", suppressed, limits=(0.0, 1.0)),
        COUNT: Output("number of detections", "How many of the boxes are detections."),
        CODES: Output("location", "The code of a box relative to each anchor.", BOXES),
        SCORES: Output("score", of_anchors, limits=(0.0, 1.0), labels=LABELS_OF_AXIS),
    }[name]


def anchors_metadata(decoding: Decoding) -> bytes:
    """The metadata by which MediaPipe decodes the outputs of `Raw`, in the schema of its object detectors (V001)."""
    builder = flatbuffers.Builder(1024)
    anchors = [
        table(builder, x_center=(0, float(x)), y_center=(1, float(y)), width=(2, float(w)), height=(3, float(h)))
        for y, x, h, w in decoding.centers
    ]
    fixed = table(builder, anchors=(0, vector(builder, anchors)))
    ssd = table(builder, fixed_anchors_schema=(0, fixed))
    y, x, height, width = decoding.scales
    fields: dict[str, Any] = {
        "num_classes": (0, Int32(decoding.classes)),
        "num_boxes": (1, Int32(len(decoding.anchors))),
        "num_coords": (2, Int32(4)),
        "num_values_per_keypoint": (5, Int32(2)),  # there are none, but MediaPipe checks it
        "x_scale": (6, x),
        "y_scale": (7, y),
        "w_scale": (8, width),
        "h_scale": (9, height),
        "apply_exponential_on_box_size": (10, Byte(1)),
    }
    decoded = table(builder, **fields)
    version = builder.CreateString("1.0.0")
    root = table(
        builder, min_parser_version=(0, version), ssd_anchors_options=(1, ssd), tensors_decoding_options=(2, decoded)
    )
    builder.Finish(root, b"V001")
    return bytes(builder.Output())
