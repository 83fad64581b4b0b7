"""The study of `kernel_sizes.py`: networks from flags, and a figure from their results."""

import os

from absl import flags
from drawing import draw
from figures import FIGURES, variations
from many_runs import Network, Study, carry_out

from mixnet_tf.commands import recipe_flags
from mixnet_tf.commands.train import define_run_flags, options_from_flags
from mixnet_tf.files import write_json
from mixnet_tf.networks import network_name


def define_flags():
    flags.DEFINE_enum("figure", None, [str(figure) for figure in FIGURES], "Figure of the paper.", required=True)
    flags.DEFINE_list(
        "networks",
        None,
        "Base networks, as names or network files, separated by commas; by default mobilenet-v1,mobilenet-v2, for "
        "figure 5 mobilenet-v2.",
    )
    flags.DEFINE_integer("largest_kernel", 13, "Figures 1, 4 and 6: the largest kernel size, pixels.", lower_bound=3)
    flags.register_validator("largest_kernel", lambda size: size % 2 == 1, "expected an odd number from 3")
    flags.DEFINE_integer("seeds", 3, "Number of seeds per network, from --seed upwards.", lower_bound=1)
    define_run_flags("scattered_digits", "runs/kernel_sizes")


def points_from_flags():
    """The figure's number, and its variations by the name of their base network.

    Raises:
        ValueError: If the figure cannot be made of the networks.
    """
    values = flags.FLAGS
    figure = int(values.figure)
    networks = values.networks or ["mobilenet-v1", "mobilenet-v2"][figure == 5 :]
    return figure, {network_name(each): variations(figure, each, values.largest_kernel) for each in networks}


def main(screen):
    """Trains the networks that are not trained yet, and reports; returns the exit code."""
    figure, points = points_from_flags()
    recipe, options = recipe_flags.recipe_from_flags(flags.FLAGS.dataset), options_from_flags()
    networks = {  # several points may share one
        (base, point.name): Network(f"{base}-{point.name}", point.stages, point.params)
        for base, curve in points.items()
        for point in curve
    }
    seeds = range(recipe.seed, recipe.seed + flags.FLAGS.seeds)
    study = Study(list(networks.values()), seeds, flags.FLAGS.dataset, recipe, options)
    code, report = carry_out(study, f"Figure {figure}", screen)
    if report is not None and report["networks"]:
        path = os.path.join(options.model_dir, f"figure-{figure}")
        report = {"figure": figure, **report, "networks": _curves(points, report["networks"])}
        write_json(f"{path}.json", report)
        draw(report, f"{path}.png")
        screen.say(f"Wrote {path}.json and {path}.png.")
    return code


def _curves(points, finished):
    """The results so far, by base network and curve."""
    curves = {}
    for base, variations_of_base in points.items():
        for point in variations_of_base:
            curve = curves.setdefault(base, {}).setdefault(point.series, [])
            found = finished.get(f"{base}-{point.name}")
            if found is not None:
                curve.append({"place": point.place, "name": point.name, **found})
    return curves
