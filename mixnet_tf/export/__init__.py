"""Export: from a Keras model to verified files for phones and servers.

In: a Keras model, and images to verify and calibrate with.
Out: TFLite files, a SavedModel, `report.json`.
"""

from mixnet_tf.export.arithmetics import ACCELERATORS
from mixnet_tf.export.classifier import Classifier
from mixnet_tf.export.detector import Detector
from mixnet_tf.export.export import export_model, export_opened, task_of
from mixnet_tf.export.inputs import ExportSettings, Inputs, gather
from mixnet_tf.export.latency import litert_latencies
from mixnet_tf.export.options import FORMATS, POSTPROCESSES, ExportOptions
from mixnet_tf.export.report import text
from mixnet_tf.export.rewrite import LARGE_KERNELS
from mixnet_tf.export.target import OUTPUTS

__all__ = [
    "ACCELERATORS",
    "Classifier",
    "Detector",
    "ExportOptions",
    "ExportSettings",
    "FORMATS",
    "Inputs",
    "LARGE_KERNELS",
    "OUTPUTS",
    "POSTPROCESSES",
    "export_model",
    "export_opened",
    "gather",
    "litert_latencies",
    "task_of",
    "text",
]
