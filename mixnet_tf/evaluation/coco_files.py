"""Reads COCO's own annotations of a split's images, and matches their categories by name."""

from collections.abc import Sequence
from typing import Any

from mixnet_tf.class_names import lacking, repeated
from mixnet_tf.data import Split
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, read_json


def read_annotations(path: StrPath) -> dict[str, Any]:
    """Reads a file of COCO's object annotations, and renumbers the annotations from 1.

    The evaluator stores the number of the annotation that a detection matches, where 0 means "none". Of several
    annotations with the same number it would know only the last.

    Raises:
        InputError: If the file has another format.
    """
    content = read_json(path)
    try:
        numbered = [{**annotation, "id": place} for place, annotation in enumerate(content["annotations"], 1)]
        is_known = all({"id", "name"} <= set(category) for category in content["categories"])
        is_known &= all("id" in image for image in content["images"])
    except (KeyError, TypeError):
        is_known = False
    if not is_known:
        raise InputError(f"annotations: {path} is not a file of COCO's object annotations.")
    return {**content, "annotations": numbered}


def categories_by_name(split: Split, categories: Sequence[dict[str, Any]], path: StrPath) -> list[int]:
    """The category number of each class of a split.

    Classes and categories are matched by name. Categories that share a name are distinguished by their numbers, if the
    categories in the order of their numbers have exactly the names of the classes.

    Args:
        split: A `data.load_objects` split.
        categories: COCO's categories: dicts of "id" and "name".
        path: Their file, for error messages.

    Raises:
        InputError: If a class has no category, or if its category is ambiguous.
    """
    shared = repeated([category["id"] for category in categories])
    if shared:
        raise InputError(f"annotations: {path} gives several categories the same number: {shared}.")
    names = list(split.label_names or ())
    known = {category["name"] for category in categories}
    missing = lacking(names, known)
    if missing or not names:
        raise InputError(f"annotations: {path} has no categories {missing}; it has {sorted(known)}.")
    wanted = sorted((category["id"], category["name"]) for category in categories if category["name"] in names)
    if [name for _, name in wanted] == names:
        return [number for number, _ in wanted]
    shared = sorted({*repeated(names), *repeated(name for _, name in wanted)})
    if shared:
        raise InputError(
            f"annotations: several classes or categories are named {shared}. They can be told apart only if the "
            f"categories, sorted by number, are the split's classes in the same order; but the split's classes are "
            f"{names}, and the categories of {path} are {wanted}. Give each category a name of its own."
        )
    by_name = {name: number for number, name in wanted}
    return [by_name[name] for name in names]
