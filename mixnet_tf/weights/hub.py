"""Weights in repositories of the Hugging Face hub: downloaded once, and read as weights alone."""

import os
import pathlib
import re
import tempfile
from typing import Any

import requests
from absl import logging

from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import keras_cache
from mixnet_tf.weights.archives import MAX_UNPACKED

PREFIX = "hf://"
ENDPOINT = "HF_ENDPOINT"  # the hub's own variable for a mirror
_HUB = "https://huggingface.co"
_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w.-]+(?:/[\w.-]+)*))?")
# A repository's file of weights: the first kind that it has. No program in a repository is run, no model deserialized.
_KINDS = (".safetensors", ".weights.h5", ".keras")
_PREFERRED = ("model.safetensors", "model.weights.h5")
_CONFIG = "config.json"  # names the architecture of timm's
_TIMEOUT = 20  # seconds without an answer
_CHUNK = 1 << 20  # bytes


def is_hub_name(weights: str) -> bool:
    """Whether weights are named as hf://ORG/NAME."""
    return weights.startswith(PREFIX)


def hub_folder(name: str) -> pathlib.Path:
    """Where the files of a repository are kept, and may be placed by hand.

    Args:
        name: hf://ORG/NAME or hf://ORG/NAME@REVISION.

    Raises:
        ValueError: For another name.
    """
    repository, revision = _parse(name)
    kept = (repository.replace("/", "--"), revision.replace("/", "--"))
    return keras_cache().joinpath("mixnet_tf", "hub", *kept)


def hub_file(name: str) -> str:
    """The path of a repository's file of weights, downloaded at first into `hub_folder`.

    A revision that was downloaded stays as it is; delete its folder to have it anew. The environment variable
    HF_ENDPOINT names a mirror.

    Args:
        name: hf://ORG/NAME, its branch main, or hf://ORG/NAME@REVISION: a branch, a tag or a commit.

    Raises:
        ConnectionError: If the hub cannot be reached; it says where to place the file by hand.
        FileNotFoundError: If there is no such repository or revision.
        ValueError: For another name, a repository without weights or with several, or one that is too large.
    """
    folder = hub_folder(name)
    if folder.exists():
        return str(folder / _weights_among([path.name for path in folder.iterdir()], name))
    repository, revision = _parse(name)
    endpoint = (os.environ.get(ENDPOINT) or _HUB).rstrip("/")
    listing = _get(f"{endpoint}/api/models/{repository}/revision/{revision}", name).json()
    there = [str(row.get("rfilename")) for row in listing.get("siblings", ())]
    chosen = _weights_among([file for file in there if "/" not in file], name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fresh = pathlib.Path(temporary, "files")
        fresh.mkdir()
        for file in (chosen, *([_CONFIG] if _CONFIG in there else [])):
            url = f"{endpoint}/{repository}/resolve/{revision}/{file}"
            logging.info(f"Downloading {url}.")
            _download(url, fresh / file, name)
        try:
            os.rename(fresh, folder)
        except OSError:
            if not folder.exists():  # another process may have been faster
                raise
    return str(folder / chosen)


def _parse(name):
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"weights: expected hf://ORG/NAME or hf://ORG/NAME@REVISION, received {name!r}.")
    return match[1], match[2] or "main"


def _weights_among(files, name):
    """The file of weights among a repository's."""
    for preferred in _PREFERRED:
        if preferred in files:
            return preferred
    for kind in _KINDS:
        found = sorted(file for file in files if file.endswith(kind))
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{name} has several files of weights, {found}; download one, and name it.")
    raise InputError(f"{name} has no file of weights, {', '.join(_KINDS)}; it has {sorted(files)}.")


def _get(url: str, name: str, **options: Any) -> requests.Response:
    try:
        response = requests.get(url, timeout=_TIMEOUT, **options)
    except requests.RequestException as error:
        raise _unreachable(url, name, error) from error
    if response.status_code in (401, 403, 404, 410):  # the hub answers 401 for what does not exist, too
        raise MissingFileError(f"weights: there is no public repository {name}; {url} answers {response.status_code}.")
    if response.status_code != 200:
        raise _unreachable(url, name, f"it answers {response.status_code}")
    return response


def _download(url, path, name):
    with _get(url, name, stream=True) as response, open(path, "wb") as file:
        size = 0
        try:
            for chunk in response.iter_content(_CHUNK):
                size += len(chunk)
                if size > MAX_UNPACKED:
                    raise InputError(f"{url} holds more bytes than any MixNet has.")
                file.write(chunk)
        except requests.RequestException as error:
            raise _unreachable(url, name, error) from error
        expected = response.headers.get("Content-Length")
    if expected is not None and "Content-Encoding" not in response.headers and size != int(expected):
        raise _unreachable(url, name, f"{size} of {expected} bytes came")


def _unreachable(url, name, reason):
    return ConnectionError(
        f"{url} could not be downloaded: {reason}\nDownload the file of weights where there is a network and place "
        f"it in {hub_folder(name)}, or set {ENDPOINT} to a mirror's URL."
    )
