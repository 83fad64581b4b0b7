"""How good a model is and where it fails, as a page to look at.

In: a classifier or a detector, and a split. Out: in a folder, report.html, which needs nothing else, and its figures.
"""

from mixnet_tf.reports.classification import write_report
from mixnet_tf.reports.detection import write_detection_report

__all__ = ["write_detection_report", "write_report"]
