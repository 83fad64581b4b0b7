"""Downloads with time limits, which refuse web pages, and files that differ from the first download."""

import contextlib
import hashlib
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import requests

from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, publishing
from mixnet_tf.passwords import masked

# Seconds to connect, and seconds of silence after that; there is no limit for a server that sends slowly.
TIMEOUT = (10.0, 20.0)
_CHUNK = 1 << 20  # bytes
_PAGE = (b"<!doctype html", b"<html")


class DownloadError(ConnectionError):
    """Something could not be downloaded; `status` is the server's HTTP status, if it gave one."""

    def __init__(self, url: str, reason: object, status: int | None = None):
        super().__init__(masked(f"{url} could not be downloaded: {reason}"))
        self.status = status


def json_at(url: str) -> Any:
    """Downloads JSON and returns its value.

    Raises:
        DownloadError: If it cannot be downloaded, or is not JSON.
    """
    with _get(url) as response:
        try:
            return response.json()
        except requests.RequestException as error:
            raise DownloadError(url, f"expected JSON, received {_described(response)}") from error


def download(url: str, path: StrPath, max_size: int) -> None:
    """Downloads a file.

    Args:
        url: http:// or https://.
        path: Where to write it; after an error the file may be incomplete.
        max_size: Largest size, bytes.

    Raises:
        DownloadError: If it cannot be downloaded whole, or is a web page, such as a network's login page.
        ValueError: If it is larger than `max_size`.
    """
    with _get(url) as response, open(path, "wb") as file:
        try:
            size = 0
            for chunk in response.iter_content(_CHUNK):
                if size == 0 and chunk.lstrip()[:20].lower().startswith(_PAGE):
                    raise DownloadError(url, f"expected a file, received {_described(response, 'text/html')}")
                size += len(chunk)
                if size > max_size:
                    raise InputError(f"{masked(url)} holds more bytes than any MixNet has.")
                file.write(chunk)
        except requests.RequestException as error:
            raise DownloadError(url, error) from error
        expected = response.headers.get("Content-Length")
    if expected is not None and "Content-Encoding" not in response.headers and size != int(expected):
        raise DownloadError(url, f"it ended after {size} of {expected} bytes")


@contextlib.contextmanager
def silence_ends() -> Iterator[None]:
    """Within its `with` block, downloads by Python's urllib, such as Keras', give up on a silent server."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT[1])
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _get(url):
    try:
        response = requests.get(url, timeout=TIMEOUT, stream=True)
    except requests.RequestException as error:
        raise DownloadError(url, error) from error
    if response.status_code != 200:
        response.close()
        raise DownloadError(url, f"it answers {response.status_code}", response.status_code)
    return response


def _described(response, kind=None):
    kind = kind or response.headers.get("Content-Type", "something else")
    return f"{kind}; is there a login page between this network and the server?"


def sha256_of(path: StrPath) -> str:
    """The SHA-256 of a file's contents, in hexadecimal digits."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()  # tens of megabytes


def first_sha256(record: StrPath) -> str | None:
    """The SHA-256 that `keep_sha256` has written to `record`; None if there is no such file."""
    try:
        return pathlib.Path(record).read_text().split(maxsplit=1)[0]
    except FileNotFoundError:
        return None
    except (IndexError, UnicodeDecodeError) as error:
        raise InputError(f"{record} is damaged: expected a line of `sha256sum`. Delete it.") from error


def keep_sha256(record: StrPath, sha256: str, name: str) -> None:
    """Writes the SHA-256 of the first download of file `name`, in the format of `sha256sum --check`."""
    with publishing(record) as local:
        pathlib.Path(local).write_text(f"{sha256}  {name}\n")


def check_first(record: StrPath, sha256: str, path: StrPath, downloaded: StrPath) -> None:
    """Raises an error if a file differs from its first download.

    Args:
        record: The file that `keep_sha256` wrote; if there is none, every file passes.
        sha256: SHA-256 of the file.
        path: Path of the file.
        downloaded: The file or folder to delete so that it is downloaded again.

    Raises:
        ValueError: If it differs.
    """
    first = first_sha256(record)
    if first not in (None, sha256):
        raise InputError(
            f"{path} is not the file that was downloaded first: expected {first} as its sha256, received {sha256}. "
            f"If its publisher has replaced it, and you trust that, delete {record} and {downloaded}, and try again."
        )
