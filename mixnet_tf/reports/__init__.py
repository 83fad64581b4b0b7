"""Reports: an HTML page on how good a model is and where it fails.

In: a classifier or a detector, and a split.
Out: a folder with report.html, which contains everything it needs, and its figures.
"""

from mixnet_tf.reports.classification import write_report
from mixnet_tf.reports.detection import write_detection_report

__all__ = ["write_detection_report", "write_report"]
