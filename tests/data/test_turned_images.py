"""How many image files an EXIF orientation turns is said before the work, and of all of them after an epoch."""

import threading
import time

import pytest
from photographs import jpeg, turned

from mixnet_tf.data import Reading, counting_turned, load_split, log_turned, turned_images

pytest.importorskip("PIL")


@pytest.fixture(scope="module")
def photographs_dir(tmp_path_factory):
    """36 JPEGs in splits: in train 30, of which 20 are turned, and a text that is called a JPEG."""
    root = tmp_path_factory.mktemp("photographs")
    plain = jpeg(16, 24)
    for split, count in (("train", 30), ("val", 6)):
        for number in range(count):
            path = root / split / "ab"[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(turned(plain, 1 + number % 3))
    (root / "train" / "a" / "text.jpg").write_text("text")
    return root


def _split(root, **reading):
    return load_split("folder", root, True, reading=Reading(**reading))


@pytest.mark.parametrize("version", (0, 1))
def test_the_first_images_are_counted_and_told_whether_they_are_turned(photographs_dir, version, logged, monkeypatch):
    counted = []
    for exif in (True, False):
        split = _split(photographs_dir, exif=exif, data_version=version)
        logged()
        log_turned(split)
        counted.append(logged())
    monkeypatch.setattr(turned_images, "_FIRST", 8)
    log_turned(split)
    assert counted[0] == "Images that are turned as their EXIF orientation says: 20 of all 31."
    assert counted[1] == (
        "Images that are not turned, although their EXIF orientation says so: 20 of all 31. "
        "A new run with --exif turns them."
    )
    first = [example["image"].numpy() for example in split.read().take(8)]
    expected = sum(not image.startswith((turned(jpeg(16, 24), 1), b"text")) for image in first)
    assert f"{expected} of the first 8." in logged()


def test_a_run_that_turns_nothing_says_nothing_of_images_without_an_orientation(photographs_dir, logged):
    split = _split(photographs_dir, exif=False)
    plain = [
        path for path in split.ids.numpy() if int(path.split(b"/")[-1].split(b".")[0].replace(b"text", b"0")) % 3 == 0
    ]
    logged()
    log_turned(split._replace(ids=plain, num_examples=len(plain)))
    log_turned(split._replace(dataset="digits"))
    assert logged() == ""


def test_all_images_are_counted_in_a_thread_that_ends_with_the_block(photographs_dir, logged, monkeypatch):
    monkeypatch.setattr(turned_images, "_FIRST", 8)
    split = _split(photographs_dir)
    logged()
    with counting_turned(split) as count:
        assert logged() == "" and not _threads()
        count()
        (thread,) = _threads()
        thread.join()
    assert logged() == "Images that are turned as their EXIF orientation says: 20 of all 31."

    begun, beginning = threading.Event(), turned_images._beginning

    def slowly(path):
        begun.set()
        time.sleep(0.05)
        return beginning(path)

    for name, value in (("_beginning", slowly), ("_BATCH", 1), ("_AT_ONCE", 1)):
        monkeypatch.setattr(turned_images, name, value)
    with pytest.raises(OSError, match="of the block"), counting_turned(split) as count:
        count()
        begun.wait()
        raise OSError("of the block")
    assert not _threads() and logged() == ""


def test_what_is_counted_already_is_not_counted_again(photographs_dir):
    split = _split(photographs_dir)
    for each in (split, split._replace(dataset="digits", num_examples=2000)):
        with counting_turned(each) as count:
            count()
            assert not _threads()


def test_a_file_that_cannot_be_read_is_left_to_the_run_to_report(photographs_dir, logged):
    split = _split(photographs_dir)
    logged()
    log_turned(split._replace(ids=[b"/no/such.jpg", *split.ids.numpy()], num_examples=32))
    assert "20 of all 32." in logged()


def _threads():
    return [thread for thread in threading.enumerate() if thread.name == "EXIF"]
