"""The study of `kernel_sizes.py`: flags to runs, and runs to a report."""

import gc
import os
import statistics
import time
from typing import NamedTuple

import keras
from absl import flags
from drawing import draw
from figures import FIGURES, Variation, variations

import mixnet_tf
from mixnet_tf.commands import command_line
from mixnet_tf.commands.train import define_run_flags, settings_from_flags
from mixnet_tf.data import load_split
from mixnet_tf.errors import InputError
from mixnet_tf.files import published, write_json
from mixnet_tf.networks import count_parts, network_content, network_name, override_global_params
from mixnet_tf.provenance import provenance
from mixnet_tf.runs import CONFIG, FINAL, RunConfig
from mixnet_tf.training import is_chief, make_strategy, read_metrics, train


class Point(NamedTuple):
    """A point of the figure, which a base network's `Variation` is."""

    base: str
    variation: Variation
    folder: str  # the study's

    @property
    def network_file(self):
        return os.path.join(self.folder, "networks", f"{self.base}-{self.variation.name}.json")

    def run_dir(self, seed):
        return os.path.join(self.folder, f"{self.base}-{self.variation.name}", f"seed-{seed}")


class Study(NamedTuple):
    """All that decides what is trained."""

    figure: int
    points: list[Point]
    seeds: range
    dataset: str
    recipe: mixnet_tf.recipe.Recipe
    settings: mixnet_tf.training.Settings

    @property
    def runs(self):
        """(point, seed) of each run by its folder, which several points may share; the first seed of all goes first."""
        return {point.run_dir(seed): (point, seed) for seed in self.seeds for point in self.points}


def define_flags():
    flags.DEFINE_enum("figure", None, [str(figure) for figure in FIGURES], "Which figure of the paper.", required=True)
    flags.DEFINE_list(
        "networks",
        None,
        "Base networks, by name or as network files, joined by commas; by default mobilenet-v1,mobilenet-v2, for "
        "figure 5 mobilenet-v2.",
    )
    flags.DEFINE_integer("largest_kernel", 13, "Figures 1, 4 and 6: the largest kernel size, pixels.", lower_bound=3)
    flags.register_validator("largest_kernel", lambda size: size % 2 == 1, "expected an odd number from 3")
    flags.DEFINE_integer("seeds", 3, "Runs of each network, from --seed on.", lower_bound=1)
    define_run_flags("scattered_digits", "runs/kernel_sizes")


def study_from_flags():
    """The study that the flags say.

    Raises:
        ValueError: For networks that the figure cannot be made of, or another study in the same folder.
    """
    values, settings = flags.FLAGS, settings_from_flags()
    figure = int(values.figure)
    networks = values.networks or ["mobilenet-v1", "mobilenet-v2"][figure == 5 :]
    points = [
        Point(network_name(network), variation, settings.model_dir)
        for network in networks
        for variation in variations(figure, network, values.largest_kernel)
    ]
    recipe = command_line.recipe_from_flags(values.dataset)
    seeds = range(recipe.seed, recipe.seed + values.seeds)
    return Study(figure, points, seeds, values.dataset, recipe, settings)


def check_runs(study):
    """Raises a ValueError if a run in the study's folder is of another configuration, before any is trained."""
    for model_dir, (point, seed) in study.runs.items():
        if study.settings.allow_config_change or published(os.path.join(model_dir, CONFIG)) is None:
            continue
        there = RunConfig.read(model_dir)
        now = there._replace(
            dataset=study.dataset,
            recipe=study.recipe._replace(seed=seed),
            network=network_content(point.variation.stages, point.variation.params),
        )
        differences = "\n".join(f"  {line}" for line in there.differences(now))
        if differences:
            raise InputError(
                f"{model_dir} is of another configuration; name another model_dir for this study.\n{differences}"
            )


def train_missing(study, screen):
    """Trains each run that is not finished; returns the exit code of the first that was interrupted, or 0.

    Once more than one run is finished, each begins with how long the rest may take.
    """
    missing = {folder: run for folder, run in study.runs.items() if not _is_finished(folder)}
    seconds = []
    for number, (model_dir, (point, seed)) in enumerate(missing.items()):
        left = f", about {statistics.mean(seconds) * (len(missing) - number) / 60:.0f} min left" if seconds else ""
        screen.say(f"Run {number + 1} of {len(missing)}: {point.base} {point.variation.name}, seed {seed}{left}")
        start = time.monotonic()
        recipe, settings = study.recipe._replace(seed=seed), study.settings._replace(model_dir=model_dir)
        code = train(point.network_file, study.dataset, recipe, settings, progress=screen.phase)
        if code:
            return code
        seconds.append(time.monotonic() - start)
        keras.backend.clear_session()
        gc.collect()
    return 0


def _is_finished(model_dir):
    return published(os.path.join(model_dir, FINAL)) is not None


def report(study, train_split):
    """What is finished so far, as values for JSON: points by base network and curve."""
    networks = {}
    for point in study.points:
        curve = networks.setdefault(point.base, {}).setdefault(point.variation.series, [])
        rows = [_result(point, seed) for seed in study.seeds if _is_finished(point.run_dir(seed))]
        accuracies = [row["top_1_accuracy"] for row in rows]
        if rows:
            spread = statistics.stdev(accuracies) if len(rows) > 1 else None
            curve.append(
                {
                    "place": point.variation.place,
                    "name": point.variation.name,
                    **_size(point.variation, study.recipe, train_split),
                    "mean": statistics.mean(accuracies),
                    "standard_deviation": spread,
                    "runs": rows,
                }
            )
    return {
        **provenance(),
        "mixnet_tf": mixnet_tf.__version__,
        "figure": study.figure,
        "dataset": study.dataset,
        "train_images": train_split.num_examples,
        "recipe": study.recipe._asdict(),
        "networks": networks,
    }


def _result(point, seed):
    model_dir = point.run_dir(seed)
    measured = [row for row in read_metrics(model_dir) if row["kind"] == "eval"][-1]
    return {"seed": seed, "model_dir": model_dir, "split": RunConfig.read(model_dir).eval_split, **measured}


def _size(variation, recipe, train_split):
    overrides = {**recipe.model_params(train_split.num_examples), "num_classes": train_split.num_classes}
    params = override_global_params(variation.params, overrides)
    parts = count_parts(variation.stages, params, recipe.image_size)
    return {
        "parameters": sum(part.trainable for part in parts),
        "multiply_adds": sum(part.multiply_adds for part in parts),
    }


def main(screen):
    """Trains what is not trained yet, and reports; returns the exit code."""
    study = study_from_flags()
    settings, folder = study.settings, study.settings.model_dir
    chief = is_chief(make_strategy(settings.strategy, settings.tpu))  # before anything is computed
    check_runs(study)
    with screen.phase(f"Opening dataset {study.dataset}", draws_itself=True):
        train_split = load_split(
            study.dataset,
            settings.data_dir,
            True,
            settings.train_split,
            settings.num_train_images,
            settings.allow_missing_shards,
        )
    for point in study.points:
        write_json(point.network_file, network_content(point.variation.stages, point.variation.params))
    steps = study.recipe.total_steps(train_split.num_examples)
    screen.say(
        f"Figure {study.figure}: {len(study.runs)} runs of {steps:,} steps, {steps * study.recipe.train_batch_size:,} "
        f"images; {sum(map(_is_finished, study.runs))} are finished."
    )
    code = train_missing(study, screen)
    if chief and any(map(_is_finished, study.runs)):
        path = os.path.join(folder, f"figure-{study.figure}")
        figures = report(study, train_split)
        write_json(f"{path}.json", figures)
        draw(figures, f"{path}.png")
        screen.say(f"Wrote {path}.json and {path}.png.")
    return code
