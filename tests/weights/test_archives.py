import gzip
import io
import tarfile

import numpy as np
import pytest
import tiny
from weights_server import know, make_archive

from mixnet_tf.weights import archives, pretrained


def link(kind, target):
    info = tarfile.TarInfo("mixnet-s/model.ckpt.index")
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "absolute path": ({"/tmp/mixnet-s/checkpoint": b"x"}, [], "'/tmp/mixnet-s/checkpoint' leads outside"),
    "parent path": ({"mixnet-s/../../../checkpoint": b"x"}, [], "leads outside"),
    "backslashes": ({"..\\..\\checkpoint": b"x"}, [], "leads outside"),
    "drive": ({"C:checkpoint": b"x"}, [], "leads outside"),
    "symbolic link": ({}, [link(tarfile.SYMTYPE, "/etc/passwd")], "neither a plain file nor a folder"),
    "hard link": ({}, [link(tarfile.LNKTYPE, "mixnet-s/checkpoint")], "neither a plain file nor a folder"),
    "device": ({}, [link(tarfile.CHRTYPE, "")], "neither a plain file nor a folder"),
    "pipe": ({}, [link(tarfile.FIFOTYPE, "")], "neither a plain file nor a folder"),
    "no checkpoint": ({"mixnet-s/readme": b"x"}, [], "holds 0 files named `checkpoint`"),
    "two checkpoints": ({"a/checkpoint": b"x", "b/checkpoint": b"x"}, [], "holds 2 files named `checkpoint`"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(mirrored, weights_cache, tmp_path, monkeypatch, name):
    files, members, message = HOSTILE[name]
    archive = make_archive(mirrored[0] / "mixnet-s.tar.gz", files, members)
    know(monkeypatch, archive)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        pretrained.published_weights("mixnet-s")
    assert set(tmp_path.rglob("*")) - before <= {weights_cache, *weights_cache.parents}


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for content in (b"a", b"b"):
            info = tarfile.TarInfo("mixnet-s/checkpoint")
            info.size = 1
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match="cannot be unpacked"):
        archives.extract(path, tmp_path / "out")


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED", 10**6)
    path = make_archive(tmp_path / "bomb.tar.gz", {"mixnet-s/checkpoint": bytes(5 * 10**6)})
    assert path.stat().st_size < 10**5
    with pytest.raises(ValueError, match="more bytes or files than any MixNet has"):
        archives.extract(path, tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()) <= 10**6


def test_the_bound_leaves_room_for_the_largest_network():
    shapes = [row["shape"] for row in tiny.listing("mixnet-l")["variables"]]
    raw_and_averaged = 2 * 4 * sum(int(np.prod(shape)) for shape in shapes)
    assert 4 * raw_and_averaged < archives.MAX_UNPACKED < 20 * raw_and_averaged


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08" + bytes(100)])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match="a.tar.gz cannot be unpacked|holds 0 files"):
        archives.extract(tmp_path / "a.tar.gz", tmp_path / "out")


def _sparse_gnu(size):
    """The header of a file of `size` zeros in GNU's old format, which holds one byte of it."""
    header = bytearray(tarfile.TarInfo("mixnet-s/checkpoint").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[124:136] = b"%011o\0" % 1  # bytes in the archive
    header[386:410] = b"%011o\0%011o\0" % (size - 1, 1)  # where they lie in the file
    header[483:495] = b"%011o\0" % size
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * ord(" ") + sum(header[156:]))
    return bytes(header) + b"x".ljust(512, b"\0")


def _sparse_pax(size):
    """The same in the format of PAX 1.0: the map of the file is the beginning of its data."""
    info = tarfile.TarInfo("mixnet-s/checkpoint")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(size)}
    content = f"1\n{size - 1}\n1\n".encode().ljust(512, b"\0") + b"x"
    info.size = len(content)
    return info.tobuf(tarfile.PAX_FORMAT) + content.ljust(1024, b"\0")


@pytest.mark.parametrize("write", [_sparse_gnu, _sparse_pax])
def test_a_sparse_file_is_refused_before_it_grows(tmp_path, monkeypatch, write):
    monkeypatch.setattr(archives, "MAX_UNPACKED", 10**5)
    for size, message in ((1000, "neither a plain file nor a folder"), (3 * 10**6, "more bytes or files than any")):
        path = tmp_path / f"{size}.tar.gz"
        path.write_bytes(gzip.compress(write(size) + bytes(1024)))
        with tarfile.open(path) as tar:
            [member] = tar.getmembers()
            assert member.issparse() and member.isreg() and member.size == size  # what it would have passed for
        with pytest.raises(ValueError, match=message):
            archives.extract(path, tmp_path / "out")
        assert not list(tmp_path.rglob("out/**/checkpoint"))


def test_a_contiguous_file_is_no_plain_one(tmp_path):
    path = make_archive(tmp_path / "a.tar.gz", members=[link(tarfile.CONTTYPE, "")])
    with pytest.raises(ValueError, match="neither a plain file nor a folder"):
        archives.extract(path, tmp_path / "out")


def test_an_archive_of_too_many_files_is_refused(tmp_path):
    path = make_archive(tmp_path / "many.tar.gz", {f"mixnet-s/{i}": b"" for i in range(1001)})
    with pytest.raises(ValueError, match="more bytes or files than any MixNet has"):
        archives.extract(path, tmp_path / "out")
