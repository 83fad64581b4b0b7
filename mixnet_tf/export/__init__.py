"""A Keras MixNet to files for phones and servers: the inference graph, its conversion, a report on both.

In: a Keras model and images to verify and calibrate with. Out: TFLite files, a SavedModel, `report.json`.
"""

from mixnet_tf.export.command import Settings, export_command
from mixnet_tf.export.export import FORMATS, Options, export_model
from mixnet_tf.export.report import text
from mixnet_tf.export.rewrite import LARGE_KERNELS
from mixnet_tf.export.target import OUTPUTS

__all__ = ["FORMATS", "LARGE_KERNELS", "OUTPUTS", "Options", "Settings", "export_command", "export_model", "text"]
