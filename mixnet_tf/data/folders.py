"""The content of folders: which files are images, and what is left out."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from mixnet_tf.data.decoding import readable
from mixnet_tf.data.rules import NEWEST, Rules
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, is_remote, read_json

# Files of macOS, Windows and network drives, beside names that begin with a dot.
_LITTER = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information")


class Listing(NamedTuple):
    """The content of a folder.

    Attributes:
        folders: Names of its folders, sorted.
        files: Names of its files, sorted.
    """

    folders: tuple[str, ...]
    files: tuple[str, ...]


def list_folder(folder: StrPath, rules: Rules) -> Listing:
    """Lists a folder, without litter if the rules leave it out.

    Raises:
        InputError: If a name is not UTF-8.
    """
    names = sorted(_names(os.fspath(folder)), key=lambda each: each[0])
    if rules.leaves_out_litter:
        names = [each for each in names if not (each[0].startswith(".") or each[0].lower() in _LITTER)]
    for name, _ in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:  # a surrogate stands for a byte
            raise InputError(f"{folder} holds {name!r}, a name that is not UTF-8; rename it.") from error
    return Listing(tuple(name for name, is_folder in names if is_folder), tuple(n for n, f in names if not f))


def _names(folder):
    """(name, whether it is a folder) pairs. No file is opened, and on a local disk none is looked up."""
    if not is_remote(folder):
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir()) for entry in entries]
    found = []
    for name in tf.io.gfile.listdir(folder):  # gs:// lists folders with a trailing slash
        plain = name.rstrip("/")
        found.append((plain, plain != name or tf.io.gfile.isdir(os.path.join(folder, name))))
    return found


def file_names(folder: StrPath) -> Sequence[str]:
    """The names of the files in a folder that can be opened; none if there is no such folder."""
    path = os.fspath(folder) or "."
    if is_remote(path):
        return [name for name in tf.io.gfile.listdir(path) if name[-1] != "/"] if tf.io.gfile.isdir(path) else []
    if not os.path.isdir(path):
        return []
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_file()]  # False for a link to what is not there


def list_subfolders(folder: StrPath, names: Sequence[str], rules: Rules) -> dict[str, Listing]:
    """Lists subfolders by name, each once, without the folders of runs if the rules leave them out."""
    listings = {name: list_folder(os.path.join(folder, name), rules) for name in names}
    if not rules.leaves_out_litter:
        return listings
    return {name: each for name, each in listings.items() if not _is_run(os.path.join(folder, name), each)}


def _is_run(folder, listing):
    if "config.json" not in listing.files:
        return False
    try:
        config = read_json(os.path.join(folder, "config.json"))
    except InputError:
        return False
    return isinstance(config, dict) and {"model_name", "recipe"} <= set(config)


def class_images(folder: StrPath, listing: Listing, rules: Rules) -> tuple[str, ...]:
    """The paths of the images in a class folder, sorted by name.

    Raises:
        InputError: If an image is a broken symbolic link.
    """
    names = listing.files if rules.leaves_out_litter else sorted((*listing.files, *listing.folders))
    return _images(folder, readable(rules.class_endings), names)


def has_images(listing: Listing, rules: Rules) -> bool:
    """Whether a folder holds images directly."""
    endings = readable(rules.class_endings)
    return any(name.lower().endswith(endings) for name in listing.files)


def others_in_words(listings: Mapping[str, Listing], rules: Rules) -> str:
    """How many files of each ending are no images, and how many folders there are, as "2 .tif, 1 folder"."""
    endings = readable(rules.class_endings)
    others = collections.Counter(
        os.path.splitext(name)[1].lower() or "without an ending"
        for listing in listings.values()
        for name in listing.files
        if not name.lower().endswith(endings)
    )
    others += collections.Counter(folder=sum(len(listing.folders) for listing in listings.values()))
    return ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))


def list_images(folder: StrPath, rules: Rules = NEWEST) -> tuple[str, ...]:
    """The paths of all images in a folder, sorted by name, ignoring classes.

    Raises:
        InputError: If there is no image, or if one is a broken symbolic link.
    """
    endings = readable(rules.endings)
    images = _images(folder, endings, list_folder(folder, rules).files)
    if not images:
        raise InputError(f"{folder} holds no images; expected files that end in one of {', '.join(endings)}.")
    return images


def images_below(folder: StrPath) -> tuple[list[str], int]:
    """The paths of all images in a folder and its subfolders, sorted, and the number of other files there.

    A folder to which several symbolic links lead is visited once.

    Raises:
        InputError: If a name is not UTF-8.
    """
    endings, images, others = readable(NEWEST.endings), [], 0
    waiting, visited = [os.fspath(folder)], set()
    while waiting:
        here = waiting.pop()
        place = here if is_remote(here) else os.path.realpath(here)
        if place in visited:
            continue
        visited.add(place)
        listing = list_folder(here, NEWEST)
        waiting.extend(os.path.join(here, name) for name in listing.folders)
        own = [os.path.join(here, name) for name in listing.files if name.lower().endswith(endings)]
        images.extend(own)
        others += len(listing.files) - len(own)
    return sorted(images), others


def _images(folder, endings, names):
    """The paths of the names that are images."""
    images = tuple(os.path.join(folder, name) for name in names if name.lower().endswith(endings))
    if not is_remote(folder):
        for path in images:
            if os.path.islink(path) and not os.path.exists(path):
                raise InputError(f"{path} is a symbolic link to {os.readlink(path)}, which is not there; remove it.")
    return images
