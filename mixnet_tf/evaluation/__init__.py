"""A model and a split to its accuracy; the checkpoints of a run to the best model."""

from mixnet_tf.evaluation.accuracy import build_evaluator, classify
from mixnet_tf.evaluation.watching import archive_final, watch

__all__ = ["archive_final", "build_evaluator", "classify", "watch"]
