"""Training: one step (`Trainer`) and a whole run (`train`).

A run takes a network's name, a dataset, a `Recipe` and `RunOptions`. It writes checkpoints, metrics and the final model
into its folder.
"""

from mixnet_tf.training.checkpointing import Checkpointer
from mixnet_tf.training.distribution import STRATEGIES, is_chief, is_evaluator, make_strategy
from mixnet_tf.training.evaluating import Evaluations, evaluation_intervals
from mixnet_tf.training.fitting import fit
from mixnet_tf.training.interruption import INTERRUPTED, RESTART_ME, Interruption
from mixnet_tf.training.metrics import METRICS, MetricsLog, read_metrics
from mixnet_tf.training.objectives import Objective, classification
from mixnet_tf.training.optim import decayed_variables, l2_loss
from mixnet_tf.training.options import RunOptions
from mixnet_tf.training.recalibration import measure_statistics, recalibrate
from mixnet_tf.training.recipes import choose_recipe, replaced
from mixnet_tf.training.run import train, trainer_for
from mixnet_tf.training.tasks import Task, task_of
from mixnet_tf.training.trainer import Trainer, dtype_policy

__all__ = [
    "Checkpointer",
    "Evaluations",
    "INTERRUPTED",
    "Interruption",
    "METRICS",
    "MetricsLog",
    "Objective",
    "RESTART_ME",
    "RunOptions",
    "STRATEGIES",
    "Task",
    "Trainer",
    "choose_recipe",
    "classification",
    "decayed_variables",
    "dtype_policy",
    "fit",
    "evaluation_intervals",
    "is_chief",
    "is_evaluator",
    "l2_loss",
    "make_strategy",
    "measure_statistics",
    "read_metrics",
    "recalibrate",
    "replaced",
    "task_of",
    "train",
    "trainer_for",
]
