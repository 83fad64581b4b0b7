"""The archives of ImageNet weights that Google published: their addresses, and what is known of their contents."""

import os
import pathlib
from typing import NamedTuple

from absl import logging

from mixnet_tf.downloads import DownloadError, check_first, download, keep_sha256, sha256_of
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, keras_cache
from mixnet_tf.passwords import masked
from mixnet_tf.weights.archives import MAX_UNPACKED

# Source: tensorflow/tpu, models/official/mnasnet/mixnet/README.md.
BASE_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet"
MIRROR = "MIXNET_TF_WEIGHTS_URL"  # environment variable


class Archive(NamedTuple):
    """What Google published about an archive.

    Attributes:
        size: Size in bytes. None if it was not published.
        sha256: SHA-256 in hexadecimal digits. None if it was not published.
    """

    size: int | None = None
    sha256: str | None = None


ARCHIVES = {
    "mixnet-s": Archive(size=30_633_801),
    "mixnet-m": Archive(),
    "mixnet-l": Archive(54_302_843, "feb487ed76e46c4a19604172b4227a84db6bfd9449b022e310606525b2bb221f"),
}


def cache_folder() -> pathlib.Path:
    """The folder where the published weights are kept, inside that of Keras."""
    return keras_cache() / "mixnet_tf"


def archive_file(model_name: str) -> pathlib.Path:
    """The path of a network's archive in the cache, where it may also be placed by hand."""
    return cache_folder() / f"{model_name}.tar.gz"


def download_archive(model_name: str, folder: StrPath) -> pathlib.Path:
    """Downloads the published archive of a network into `folder`, and returns its path.

    Raises:
        ConnectionError: If it cannot be downloaded.
        ValueError: If it is larger than that of any MixNet.
    """
    kept = archive_file(model_name)
    url = (os.environ.get(MIRROR) or BASE_URL).rstrip("/") + f"/{kept.name}"
    path = pathlib.Path(folder, kept.name)
    logging.info(f"Downloading {masked(url)}.")
    try:
        download(url, path, MAX_UNPACKED)
    except DownloadError as error:
        raise ConnectionError(
            f"{error}\nDownload it where there is a network and place it as {kept}, or set {MIRROR} to a mirror's URL."
        ) from error
    return path


def check_archive(path: StrPath, model_name: str) -> None:
    """Compares an archive with the published size and checksum, logs its own, and warns about those not published.

    If no checksum is published, the archive is compared with the one that was downloaded first.

    Raises:
        ValueError: If the size or the checksum differs.
    """
    known, record, kept = ARCHIVES[model_name], _record(model_name), archive_file(model_name)
    found = Archive(os.path.getsize(path), sha256_of(path))
    logging.info(f"{kept.name}: {found.size} bytes, sha256 {found.sha256}")
    for field, unit in (("size", "bytes"), ("sha256", "as its sha256")):
        expected, received = getattr(known, field), getattr(found, field)
        if expected not in (None, received):
            raise InputError(
                f"{path} is not the published archive of {model_name}: expected {expected} {unit}, "
                f"received {received}. Delete it if it is still there, and try again."
            )
        if expected is None and not record.exists():
            logging.warning(f"{kept.name}: its {field} is not published, so it was not checked.")
    if known.sha256 is None:
        check_first(record, str(found.sha256), kept, kept)


def keep_checksum(path: StrPath, model_name: str) -> None:
    """Records the checksum of the first archive of a network whose checksum is not published."""
    record = _record(model_name)
    if ARCHIVES[model_name].sha256 is None and not record.exists():
        keep_sha256(record, sha256_of(path), archive_file(model_name).name)
        logging.info(f"The sha256 of {archive_file(model_name).name} is kept in {record}.")


def _record(model_name):
    return cache_folder() / f"{model_name}.tar.gz.sha256"
