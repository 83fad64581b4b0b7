"""A Keras MixNet to files for phones and servers: the inference graph, its conversion, a report on both.

In: a Keras model and images to verify and calibrate with. Out: TFLite files, a SavedModel, `report.json`.
"""

from mixnet_tf.export.export import export_model, export_opened
from mixnet_tf.export.inputs import Inputs, Settings, gather
from mixnet_tf.export.options import FORMATS, ExportOptions
from mixnet_tf.export.report import text
from mixnet_tf.export.rewrite import LARGE_KERNELS
from mixnet_tf.export.target import OUTPUTS

__all__ = [
    "ExportOptions",
    "FORMATS",
    "Inputs",
    "LARGE_KERNELS",
    "OUTPUTS",
    "Settings",
    "export_model",
    "export_opened",
    "gather",
    "text",
]
