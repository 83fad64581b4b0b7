"""ImageNet (ILSVRC 2012): its classes and its numbers of images."""

import functools
import importlib.util
import pathlib
from collections.abc import Sequence

CLASSES = 1000
# Shards and images of a split. Source: tools/datasets/imagenet_to_gcs.py; mnasnet_main.py.
SPLITS = {"train": (1024, 1_281_167), "validation": (128, 50_000)}
_LABELS = "datasets/imagenet2012/labels.txt"  # a file of tensorflow_datasets, read without importing it


@functools.cache
def wordnet_ids() -> tuple[str, ...]:
    """The WordNet ids of the classes in their order, such as "n01440764": the names by which classes are compared."""
    package = importlib.util.find_spec("tensorflow_datasets")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("tensorflow_datasets is not installed; it has the WordNet ids of ImageNet's classes.")
    return tuple(pathlib.Path(package.submodule_search_locations[0], _LABELS).read_text().split())


def is_imagenet(names: Sequence[str] | None) -> bool:
    """Whether classes are ImageNet's 1,000, named by their WordNet ids."""
    return names is not None and len(names) == CLASSES and tuple(names) == wordnet_ids()
