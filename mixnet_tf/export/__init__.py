"""A Keras MixNet to files for phones and servers: the inference graph, its conversion, a report on both.

In: a Keras model and images to verify and calibrate with. Out: TFLite files, a SavedModel, `report.json`.
"""

from mixnet_tf.export.detector_options import DETECTOR_FORMATS, POSTPROCESSES, DetectorOptions
from mixnet_tf.export.detectors import detector_text, export_detector
from mixnet_tf.export.export import export_model, export_opened
from mixnet_tf.export.inputs import Inputs, Settings, gather
from mixnet_tf.export.latency import litert_latencies
from mixnet_tf.export.options import FORMATS, ExportOptions
from mixnet_tf.export.postprocess import Decoding
from mixnet_tf.export.report import text
from mixnet_tf.export.rewrite import LARGE_KERNELS
from mixnet_tf.export.target import OUTPUTS

__all__ = [
    "DETECTOR_FORMATS",
    "Decoding",
    "DetectorOptions",
    "ExportOptions",
    "FORMATS",
    "Inputs",
    "LARGE_KERNELS",
    "OUTPUTS",
    "POSTPROCESSES",
    "Settings",
    "detector_text",
    "export_detector",
    "export_model",
    "export_opened",
    "gather",
    "litert_latencies",
    "text",
]
