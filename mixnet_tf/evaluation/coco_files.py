"""COCO's own annotations of a split's images: a JSON file read for the evaluator, its categories found by name."""

from collections.abc import Sequence
from typing import Any

from mixnet_tf.class_names import lacking, repeated
from mixnet_tf.data import Split
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, read_json


def read_annotations(path: StrPath) -> dict[str, Any]:
    """The content of a file of COCO's object annotations, the annotations numbered from 1.

    The evaluator keeps the number of the annotation that a detection matches, and takes 0 for "none"; of several with
    one number it knows the last alone.

    Raises:
        InputError: If it is not such a file.
    """
    content = read_json(path)
    try:
        numbered = [{**annotation, "id": place} for place, annotation in enumerate(content["annotations"], 1)]
        named = all({"id", "name"} <= set(category) for category in content["categories"])
        has_images = all("id" in image for image in content["images"])
    except (KeyError, TypeError) as error:
        raise InputError(f"annotations: {path} is not a file of COCO's object annotations.") from error
    if not named or not has_images:
        raise InputError(f"annotations: {path} is not a file of COCO's object annotations.")
    return {**content, "annotations": numbered}


def categories_by_name(split: Split, categories: Sequence[dict[str, Any]], path: StrPath) -> list[int]:
    """The number of the category of each class of a split.

    Classes and categories are compared by name. A name that several have is told apart by the numbers, where the
    categories in the order of their numbers have the names of the classes, one for one.

    Args:
        split: A `data.load_objects` split.
        categories: COCO's: dicts of "id" and "name".
        path: The file that they come from, for the messages.

    Raises:
        InputError: If a class has no category, or it is not clear which.
    """
    shared = repeated([category["id"] for category in categories])
    if shared:
        raise InputError(f"annotations: {path} has numbers of more than one category: {shared}.")
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
            f"annotations: {shared} are names of more than one class or category, which are told apart only where "
            f"the categories, in the order of their numbers, are the split's classes one for one: the split's classes "
            f"are {names}, the categories of {path} {wanted}. Give these categories names of their own."
        )
    by_name = {name: number for number, name in wanted}
    return [by_name[name] for name in names]
