"""The settings of a search, and their bounds."""

from typing import Annotated, NamedTuple

from mixnet_tf.data import LIST, VALIDATION_FRACTION
from mixnet_tf.errors import InputError
from mixnet_tf.files import is_remote
from mixnet_tf.recipe import UNWEIGHTED, Recipe
from mixnet_tf.search.costs import COSTS, LATENCY, MULTIPLY_ADDS
from mixnet_tf.search.ranking import FEWEST
from mixnet_tf.settings import Setting, check, documented

ESTIMATES = ("train", "supernet")


@documented
class SearchSettings(NamedTuple):
    """How a search is carried out, and on which data."""

    search_dir: Annotated[
        str, Setting("Folder of the search, which all its workers reach; the same command resumes it.", is_path=True)
    ]
    data_dir: Annotated[
        str, Setting("Folder that the data is read from or, for tensorflow_datasets, is prepared in.", is_path=True)
    ]
    list: Annotated[str | None, LIST] = None
    validation_fraction: Annotated[float | None, VALIDATION_FRACTION] = None
    train_split: Annotated[
        str | None, Setting("Split whose images the networks are trained and compared on; by default train.")
    ] = None
    held_out: Annotated[
        float, Setting("Fraction of that split that is not trained on but compares the networks.", above=0, below=1)
    ] = 0.2
    evaluations: Annotated[int, Setting("Number of networks to measure.", least=1)] = 100
    population: Annotated[int, Setting("Networks in a generation of NSGA-II.", least=2)] = 20
    cost: Annotated[
        str,
        Setting(
            "Cost to keep low: multiply-adds; or latency, the milliseconds of a float32 export in LiteRT on one "
            "thread, summed over the blocks.",
            choices=COSTS,
        ),
    ] = MULTIPLY_ADDS
    latency_table: Annotated[
        str | None,
        Setting(
            "For the cost latency: JSON file with the time of each block, such as a phone's; by default the blocks are "
            "measured on this machine.",
            is_path=True,
        ),
    ] = None
    max_cost: Annotated[
        float | None, Setting("Largest cost of a network, multiply-adds or milliseconds; by default any.", above=0)
    ] = None
    estimate: Annotated[
        str,
        Setting(
            "How networks are compared: train trains each one for estimate_steps; supernet trains weights that all "
            "networks share, by the whole recipe, and measures each network with them.",
            choices=ESTIMATES,
        ),
    ] = "train"
    estimate_steps: Annotated[
        int, Setting("For the estimate train: steps that each network is trained for.", least=1)
    ] = 200
    random_baseline: Annotated[
        bool, Setting("Whether to measure as many networks drawn at random, too; this doubles the work.")
    ] = False
    check_ranking: Annotated[
        int,
        Setting(
            "Number of networks, drawn at random, to train by the whole recipe, which shows how well the estimate "
            f"ranks them: 0 for none, or from {FEWEST}.",
            least=0,
        ),
    ] = 0
    storage: Annotated[
        str | None,
        Setting(
            "Address of the database that workers share, such as postgresql://...; by default a file in search_dir."
        ),
    ] = None
    deterministic: Annotated[bool, Setting("Whether equal searches give bit-equal results, at some cost of speed.")] = (
        False
    )

    def check(self, recipe: Recipe) -> None:
        """Checks the settings, and that a search can use the recipe.

        Raises:
            ValueError: For a setting out of its bounds, or settings that exclude each other; the message says what was
                received and what is allowed.
        """
        check(self)
        if self.latency_table is not None and self.cost != LATENCY:
            raise InputError(f"latency_table goes with cost={LATENCY!r}; received cost={self.cost!r}.")
        if 0 < self.check_ranking < FEWEST:
            raise InputError(
                f"check_ranking: expected 0 or a whole number from {FEWEST}; received {self.check_ranking!r}."
            )
        if recipe.freeze != "none":
            raise InputError(f"freeze={recipe.freeze!r}: a search trains networks from random weights.")
        if recipe.class_weights != UNWEIGHTED:
            raise InputError(
                f"class_weights={recipe.class_weights!r}: a search compares networks without; leave it out."
            )
        if self.storage is None and is_remote(self.search_dir):
            raise InputError(
                f"search_dir: {self.search_dir!r} is on remote storage, where SQLite keeps no study; give --storage, "
                "such as postgresql://user:password@host/database."
            )
