"""The end of a run: whether it is finished, and what it has reached."""

import os
from typing import Any

from absl import logging

from mixnet_tf.data import Split
from mixnet_tf.evaluation import has_best, in_words
from mixnet_tf.files import StrPath, exists, read_json
from mixnet_tf.progress import Progress, silent
from mixnet_tf.runs import BEST, BEST_METRICS, CHECKPOINTS, FINAL, RunConfig, newest_checkpoint, step_of
from mixnet_tf.training.evaluating import Evaluations
from mixnet_tf.training.metrics import MetricsLog, read_metrics
from mixnet_tf.training.recalibration import recalibrate
from mixnet_tf.training.trainer import Trainer

_RISES = 3  # evaluations, at least, from which a rise of the loss is told


def is_finished(config: RunConfig, model_dir: StrPath) -> bool:
    """Whether a run has taken its last step, and has written and measured its final model.

    Runs of version 0.2.0 never are: they evaluate again.
    """
    checkpoint = newest_checkpoint(os.path.join(model_dir, CHECKPOINTS))
    if config.eval_every is None or checkpoint is None or not exists(os.path.join(model_dir, FINAL)):
        return False
    step = step_of(checkpoint)
    return step >= config.last_step and any(row["step"] == step for row in _evaluations(model_dir))


def finish(
    trainer: Trainer,
    evaluations: Evaluations,
    config: RunConfig,
    train_split: Split,
    metrics: MetricsLog,
    progress: Progress = silent,
) -> None:
    """Evaluates the EMA weights, writes them as the run's final model, and logs what the run has reached."""
    recipe = config.recipe
    if recipe.recalibrate_batch_norm:
        with progress("Measuring the statistics of batch normalization"):
            recalibrate(trainer.ema_model, train_split, recipe, trainer.strategy)
    evaluations.finish(metrics, progress, is_changed=recipe.recalibrate_batch_norm)
    if evaluations.model_dir is None:
        return
    if trainer.step < recipe.total_steps(config.num_train_images):
        config = config._replace(stopped_at=trainer.step)
        config.write(evaluations.model_dir)
    report_end(config, evaluations.model_dir)


def report_end(config: RunConfig, model_dir: StrPath) -> None:
    """Logs what a finished run has reached, and what to try if it has learned its training images by heart."""
    rows = _evaluations(model_dir)
    last = rows[-1]
    early = "" if config.stopped_at is None else f", early: {config.early_stopping} evaluations in turn were not better"
    logging.info(f"The run is finished at step {last['step']}{early}. {FINAL}: {in_words(last)}.")
    best = read_json(os.path.join(model_dir, BEST_METRICS)) if has_best(model_dir) else None
    if best is not None:
        logging.info(f"The best model is that of step {best['step']}. {BEST}: {in_words(best)}.")
    losses = [row["cross_entropy"] for row in rows if row.get("cross_entropy") is not None]
    if best is not None and len(losses) >= _RISES and min(losses[1:]) > losses[0]:
        logging.warning(
            f"The loss on split {config.eval_split!r} rose from the first evaluation on, {losses[0]:.4f}, to "
            f"{losses[-1]:.4f}: the network learns the training images by heart. To try: --early_stopping, fewer "
            "--train_epochs, pretrained --weights, with them --freeze=bn or --freeze=backbone, more images."
        )


def _evaluations(model_dir) -> list[dict[str, Any]]:
    return [row for row in read_metrics(model_dir) if row["kind"] == "eval"]
