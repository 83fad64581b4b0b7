"""A model, a recipe and a split to trained weights: one step (`Trainer`), and a whole run (`train`).

In: a network's name, a dataset, a `Recipe`. Out: in the run's folder, checkpoints, metrics and the final model.
"""

from mixnet_tf.training.distribution import STRATEGIES, is_chief, make_strategy
from mixnet_tf.training.interruption import RESTART_ME
from mixnet_tf.training.metrics import METRICS, read_metrics
from mixnet_tf.training.preparation import Settings
from mixnet_tf.training.run import train
from mixnet_tf.training.tasks import task_of
from mixnet_tf.training.trainer import Trainer

__all__ = [
    "METRICS",
    "RESTART_ME",
    "STRATEGIES",
    "Settings",
    "Trainer",
    "is_chief",
    "make_strategy",
    "read_metrics",
    "task_of",
    "train",
]
