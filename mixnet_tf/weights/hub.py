"""Downloads weights from repositories of the Hugging Face hub, and keeps them."""

import os
import pathlib
import re
import tempfile

from absl import logging

from mixnet_tf.downloads import DownloadError, check_first, download, json_at, keep_sha256, sha256_of
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import keras_cache
from mixnet_tf.passwords import masked
from mixnet_tf.weights.archives import MAX_UNPACKED
from mixnet_tf.weights.records import RECORDS

PREFIX = "hf://"
ENDPOINT = "HF_ENDPOINT"  # the hub's own variable for a mirror
_HUB = "https://huggingface.co"
_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w.-]+(?:/[\w.-]+)*))?")
# File types of weights; the first one that a repository has is read. None of its code is run, no model deserialized.
_KINDS = (".safetensors", ".weights.h5", ".keras")
_PREFERRED = ("model.safetensors", "model.weights.h5")
_CONFIG = "config.json"  # in timm's repositories, it names the architecture


def is_hub_name(weights: str) -> bool:
    """Whether `weights` is a name like hf://ORG/NAME."""
    return weights.startswith(PREFIX)


def hub_folder(name: str) -> pathlib.Path:
    """The folder in which a repository's files are kept, and may be placed by hand.

    Args:
        name: hf://ORG/NAME or hf://ORG/NAME@REVISION.

    Raises:
        ValueError: If the name has another form.
    """
    repository, revision = _parse(name)
    kept = (repository.replace("/", "--"), revision.replace("/", "--"))
    return keras_cache().joinpath("mixnet_tf", "hub", *kept)


def hub_file(name: str) -> str:
    """The path of a repository's file of weights, which the first call downloads into `hub_folder`.

    A downloaded revision is not updated. The SHA-256 of its first download is kept in REVISION.sha256 beside the
    folder, and a file with another checksum is refused; to download the revision again, delete both. The environment
    variable HF_ENDPOINT names a mirror.

    Args:
        name: hf://ORG/NAME for the branch main, or hf://ORG/NAME@REVISION for a branch, a tag or a commit.

    Raises:
        ConnectionError: If the hub cannot be reached; the message says where to place the file by hand.
        FileNotFoundError: If there is no such repository or revision.
        ValueError: If the name has another form, if the repository has no file of weights or several, or if the file
            is too large or differs from its first download.
    """
    folder = hub_folder(name)
    record = folder.with_name(f"{folder.name}.sha256")
    if folder.exists() and not _was_deleted(folder, record):
        path = folder / _weights_among([path.name for path in folder.iterdir()], name)
        if record.exists():
            check_first(record, sha256_of(path), path, folder)
        return str(path)
    try:
        return _download(name, folder, record)
    except DownloadError as error:
        if error.status in (401, 403, 404, 410):  # the hub also answers 401 if there is no such repository
            raise MissingFileError(f"weights: there is no public repository {name}; {error}.") from error
        raise ConnectionError(
            f"{error}\nDownload the file of weights where there is a network and place it in {folder}, "
            f"or set {ENDPOINT} to a mirror's URL."
        ) from error


def _was_deleted(folder, record):
    """Whether a downloaded file of weights was deleted, so that it is downloaded again."""
    return record.exists() and not any(path.name.endswith(_KINDS) for path in folder.iterdir())


def _download(name, folder, record):
    repository, revision = _parse(name)
    endpoint = (os.environ.get(ENDPOINT) or _HUB).rstrip("/")
    there = _listed(f"{endpoint}/api/models/{repository}/revision/{revision}")
    chosen = _weights_among([file for file in there if "/" not in file], name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fresh = pathlib.Path(temporary, "files")
        fresh.mkdir()
        for file in (chosen, *([_CONFIG] if _CONFIG in there else [])):
            url = f"{endpoint}/{repository}/resolve/{revision}/{file}"
            logging.info(f"Downloading {masked(url)}.")
            download(url, fresh / file, MAX_UNPACKED)
        sha256 = sha256_of(fresh / chosen)
        _check_published(name, sha256)
        check_first(record, sha256, folder / chosen, folder)
        if not record.exists():
            keep_sha256(record, sha256, f"{folder.name}/{chosen}")
            if published_sha256(name) is None:
                logging.warning(
                    f"{name}: {chosen}: its sha256 is not published, so it was not checked; {sha256} is kept in "
                    f"{record}."
                )
        try:
            os.rename(fresh, folder)
        except OSError:  # the folder exists: its file was deleted, or another process was faster
            for path in fresh.iterdir():
                os.replace(path, folder / path.name)
    return str(folder / chosen)


def published_sha256(name: str) -> str | None:
    """The SHA-256 that was published of the weights with this name; None: there is none."""
    return next((each.sha256 for each in RECORDS if each.weights == name), None)


def _check_published(name, sha256):
    published = published_sha256(name)
    if published not in (None, sha256):
        raise InputError(
            f"{name} is not the published file: expected {published} as its sha256, received {sha256}. If its "
            f"publisher has replaced it, and you trust that, name its revision: {name}@REVISION."
        )


def _parse(name):
    match = _NAME.fullmatch(name)
    if match is None or {".", ".."} & set(re.split("[/@]", name)):
        raise InputError(f"weights: expected hf://ORG/NAME or hf://ORG/NAME@REVISION, received {name!r}.")
    return match[1], match[2] or "main"


def _listed(url):
    """The names of the files in a repository."""
    listing = json_at(url)
    try:
        return [row["rfilename"] for row in listing["siblings"]]
    except (KeyError, TypeError) as error:
        raise DownloadError(url, f"{str(listing)[:60]!r} is not the hub's list of files") from error


def _weights_among(files, name):
    """The name of the file of weights among the files of a repository."""
    for preferred in _PREFERRED:
        if preferred in files:
            return preferred
    for kind in _KINDS:
        found = sorted(file for file in files if file.endswith(kind))
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{name} has several files of weights, {found}; download one of them and give its path.")
    raise InputError(f"{name} has no file of weights, {', '.join(_KINDS)}; it has {sorted(files)}.")
