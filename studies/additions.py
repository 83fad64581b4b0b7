"""The study of `recipe_fields.py`: a network trained by a recipe, and by the same with one addition at a time."""

import os

from absl import flags
from many_runs import Network, Study, carry_out

from mixnet_tf.commands import recipe_flags
from mixnet_tf.commands.train import define_run_flags, options_from_flags
from mixnet_tf.export.report import table
from mixnet_tf.files import write_json
from mixnet_tf.networks import stages_and_params

NONE = "none"
# The fields of each addition, at values that are usual elsewhere. AdamW's learning rates are for 256 images.
ADDITIONS = {
    NONE: {},
    "randaugment": {"randaugment_layers": 2, "randaugment_magnitude": 9.0},
    "color_jitter": {"color_jitter": 0.4},
    "erasing": {"erasing": 0.25},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "class_weights": {"class_weights": "balanced"},
    "clip_norm": {"clip_norm": 1.0},
    "minimum_learning_rate": {"minimum_learning_rate": 1e-4},
    **{
        f"adamw-{rate}": {"optimizer": "adamw", "base_learning_rate": rate, "weight_decay": 0.05}
        for rate in (0.001, 0.004, 0.016)
    },
    "drop_path": {"model_overrides": {"drop_path": 0.2}},
}


def define_flags():
    flags.DEFINE_string("network", "studies/v1_stride4.json", "The network, by name or file.")
    flags.DEFINE_list("additions", list(ADDITIONS), f"Which of {', '.join(ADDITIONS)}, separated by commas.")
    flags.register_validator(
        "additions", lambda names: set(names) <= set(ADDITIONS), f"expected {', '.join(ADDITIONS)}"
    )
    flags.DEFINE_integer("seeds", 3, "Number of seeds per addition, from --seed upwards.", lower_bound=1)
    define_run_flags("scattered_digits", "runs/recipe_fields")


def main(screen):
    """Trains what is not trained yet, and reports; returns the exit code."""
    values = flags.FLAGS
    recipe, options = recipe_flags.recipe_from_flags(values.dataset), options_from_flags()
    stages, params = stages_and_params(values.network)
    networks = [Network(name, stages, params, _fields(recipe, ADDITIONS[name])) for name in values.additions]
    seeds = range(recipe.seed, recipe.seed + values.seeds)
    code, report = carry_out(Study(networks, seeds, values.dataset, recipe, options), "Additions", screen)
    if report is not None and report["networks"]:
        path = os.path.join(options.model_dir, "recipe_fields.json")
        report = {"network": values.network, **report, "additions": {n.name: dict(n.recipe_fields) for n in networks}}
        write_json(path, report)
        screen.say(table(list(report["networks"].items()), _COLUMNS))
        screen.say(f"Wrote {path}.")
    return code


def _fields(recipe, addition):
    """The addition's fields, its parameters of the network beside the recipe's."""
    overrides = {**(recipe.model_overrides or {}), **addition.get("model_overrides", {})}
    return {**addition, "model_overrides": overrides or None}


_COLUMNS = {
    "addition": lambda row: row[0],
    "top-1": lambda row: f"{row[1]['mean']:.2%}",
    "deviation": lambda row: "-" if row[1]["standard_deviation"] is None else f"{row[1]['standard_deviation']:.2%}",
    "of seeds": lambda row: " ".join(f"{run['top_1_accuracy']:.2%}" for run in row[1]["runs"]),
}
