"""Unpacks archives that are not trusted."""

import gzip
import pathlib
import shutil
import tarfile
import zlib

from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath

# The raw and the averaged float32 weights of MixNet-L take 59 MB.
MAX_UNPACKED = 500 * 10**6  # bytes
_MAX_MEMBERS = 1000  # a published archive has a handful


class _Bounded:
    """A stream that raises an error after `limit` bytes, so that no archive fills the disk or the memory."""

    def __init__(self, file, limit):
        self._file, self._left = file, limit

    def read(self, size):
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise InputError("it unpacks to more bytes or files than any MixNet has")
        return data


def extract(archive: StrPath, folder: StrPath) -> pathlib.Path:
    """Unpacks a `.tar.gz` of plain files, and returns the folder of the checkpoint in it.

    Raises:
        ValueError: If the archive is damaged, holds links, special or sparse files or paths outside `folder`, unpacks
            to more than any MixNet, or has no checkpoint. The contents of `folder` are then of no use.
    """
    folder = pathlib.Path(folder)
    try:
        with (
            gzip.open(archive) as unzipped,
            tarfile.open(fileobj=_Bounded(unzipped, MAX_UNPACKED), mode="r|") as tar,  # type: ignore[call-overload]
        ):
            left = MAX_UNPACKED
            for number, member in enumerate(tar):
                left -= member.size
                if left < 0 or number >= _MAX_MEMBERS:
                    raise InputError("it unpacks to more bytes or files than any MixNet has")
                _extract_member(tar, member, folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise InputError(f"{archive} cannot be unpacked: {error}. Delete it, and try again.") from error
    states = list(folder.rglob("checkpoint"))
    if len(states) != 1:
        raise InputError(f"{archive} holds {len(states)} files named `checkpoint`, expected one beside model.ckpt.*.")
    return states[0].parent


def _extract_member(tar, member, folder):
    place = pathlib.PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts or "\\" in member.name or ":" in member.name:
        raise InputError(f"{member.name!r} leads outside of the archive's own folder")
    if member.isdir():
        return
    # To tarfile a sparse file is a regular one, but it is larger on the disk than in the archive.
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise InputError(f"{member.name!r} is neither a plain file nor a folder")
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "xb") as file:  # x: raises an error if a name occurs twice
        shutil.copyfileobj(tar.extractfile(member), file)
