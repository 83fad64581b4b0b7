"""Many image files: their classes in order, and the CSV file that an interrupted command continues."""

import csv
import functools
import os

import numpy as np
import pytest
import tensorflow as tf
from photographs import jpeg, turned
from tiny import SMALL_NETWORK

from mixnet_tf.evaluation import Classified, classify, classify_files, find_images, write_predictions
from mixnet_tf.evaluation.predictions_csv import COLUMNS
from mixnet_tf.models import build_model

_NAMES = [f"class {number}" for number in range(7)]


@pytest.fixture(scope="module")
def model():
    return build_model(
        None, SMALL_NETWORK["params"], blocks_args=SMALL_NETWORK["blocks"], classes=7, input_shape=(16, 16, 3)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images in folders of folders, of which three are none in truth, and other files; a loop of links."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(9):
        path = root / ("", "a", "a/b c")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(rng.integers(0, 256, (20, 24, 3), "uint8")).numpy())
    (root / "3.jpg").write_text("text")
    (root / "a" / "0.png").write_bytes(b"\x89PNG cut")
    (root / "z.JPG").write_bytes(b"")
    (root / "notes.txt").write_text("text")
    (root / ".hidden.png").write_text("text")
    os.symlink(root, root / "a" / "again")
    return root


@pytest.fixture
def images(folder):
    return find_images([folder])


@pytest.fixture(scope="module")
def classify_all(model):
    """Remembers what it has computed: each call would trace the model anew."""
    known = {}

    def function(paths):
        for path in paths:
            if path not in known:
                known.update({each.path: each for each in classify_files(model, paths, batch_size=4)})
            yield known[path]

    return function


def test_all_images_below_a_folder_are_found_once_and_sorted(folder, logged):
    found = find_images([folder, folder / "0.png"])
    logged()
    assert found == find_images([folder])
    assert logged() == f"{folder}: left out files that are no images: 1."
    assert found == sorted(found) and len(found) == 12
    names = {os.path.relpath(path, folder) for path in found}
    assert {"0.png", "3.jpg", "z.JPG", "a/0.png", "a/b c/2.png"} <= names


def test_what_is_not_there_and_a_folder_without_images_are_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="image: there is no file .*no.png"):
        find_images([folder, folder / "no.png"])
    with pytest.raises(ValueError, match="and its subfolders hold no JPEG"):
        find_images([tmp_path])


def test_files_in_batches_have_the_classes_that_each_has_alone(model, images, classify_all):
    found = list(classify_all(images))
    assert [each.path for each in found] == images
    broken = [os.path.basename(each.path) for each in found if each.error is not None]
    assert broken == ["3.jpg", "0.png", "z.JPG"]
    for each in found:
        if each.error is None:
            alone = classify(model, each.path)
            assert [number for number, _ in alone] == [number for number, _ in each.found]
            np.testing.assert_allclose([p for _, p in each.found], [p for _, p in alone], atol=1e-6)  # sums in batches
        else:
            assert each.found == [] and f"image: {each.path} is not a readable" in each.error


def test_photographs_are_turned_by_default(model, tmp_path):
    pytest.importorskip("PIL")
    (tmp_path / "a.jpg").write_bytes(turned(jpeg(40, 17), 6))
    upright = tf.image.rot90(tf.io.decode_jpeg(jpeg(40, 17)), 3)
    (tmp_path / "b.png").write_bytes(tf.io.encode_png(upright).numpy())
    first, second = classify_files(model, find_images([tmp_path]))
    assert first.found == second.found


def _rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_file_has_a_row_for_each_image(tmp_path, images, classify_all):
    path = tmp_path / "new" / "out.csv"
    assert write_predictions(path, images, _NAMES, classify_all) == (0, 12, 3)
    header, *rows = _rows(path)
    assert header == list(COLUMNS)
    assert ",".join(header).startswith("path,class_1,probability_1,class_2,probability_2,")
    for row, each in zip(rows, classify_all(images), strict=True):
        assert row[0] == each.path and row[-1] == (each.error or "")
        expected = [text for number, p in each.found for text in (_NAMES[number], f"{p:.6f}")]
        assert row[1:11] == expected or row[1:11] == [""] * 10 and each.error


def test_a_model_of_few_classes_leaves_columns_empty(tmp_path):
    def classify_as_two(paths):
        return iter([Classified(path, [(1, 0.75), (0, 0.25)]) for path in paths])

    write_predictions(tmp_path / "out.csv", ['a,"b"\n.png'], ["no", "yes"], classify_as_two)
    assert _rows(tmp_path / "out.csv")[1] == ['a,"b"\n.png', "yes", "0.750000", "no", "0.250000", *[""] * 7]


def test_a_file_cut_anywhere_is_continued_to_the_same_file(tmp_path):
    paths, asked = ["a.png", 'b,"\n".png', "c.png"], []

    def classify_as_one(paths):
        asked.append(len(paths))
        return iter([Classified(path, [(0, 1.0)], "ü" if path == "c.png" else None) for path in paths])

    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    assert write_predictions(whole, paths, ["x"], classify_as_one) == (0, 3, 1)
    content = whole.read_bytes()
    assert write_predictions(whole, paths, ["x"], classify_as_one) == (3, 0, 0)
    for size in range(len(content)):
        cut.write_bytes(content[:size])
        rows = write_predictions(cut, paths, ["x"], classify_as_one)
        assert cut.read_bytes() == content
        assert rows.before + rows.written == 3
    assert asked == sorted(asked, reverse=True)  # of more that is there, less is asked for; nothing of a whole file
    assert 1 <= min(asked) and max(asked) == 3


def test_an_interrupted_command_continues_where_it_was(tmp_path, images, classify_all):
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    write_predictions(whole, images, _NAMES, classify_all)

    def interrupted(paths):
        yield from list(classify_all(paths))[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_predictions(broken, images, _NAMES, interrupted)
    assert write_predictions(broken, images, _NAMES, classify_all) == (
        5,
        7,
        3 - sum(r[-1] != "" for r in _rows(whole)[1:6]),
    )
    assert broken.read_bytes() == whole.read_bytes()


_HEADER = ",".join(COLUMNS)
_OTHERS = {
    "another header": ("path,class\na.png,x\n", "is another file; its first line is not path,class_1,"),
    "text": ("a letter", "is another file"),
    "a row of another length": (f"{_HEADER}\na.png,x\n", "row 2 of .* has 2 columns in place of 12"),
    "other classes": (f"{_HEADER}\na.png,x,1{',' * 9}\n", "has rows with 'x', which the model's classes are not"),
    "bytes": (b"\xff\xfe\n", "is not a CSV file in UTF-8"),
}


@pytest.mark.parametrize("kind", _OTHERS)
def test_another_file_is_refused_and_left_as_it_is(kind, tmp_path, images):
    content, message = _OTHERS[kind]
    path = tmp_path / "out.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        write_predictions(path, images, _NAMES, lambda paths: pytest.fail("asked"))
    assert path.read_bytes() == before


def test_a_place_where_no_row_can_be_added_is_refused(tmp_path):
    write = functools.partial(
        write_predictions, images=["a.png"], names=_NAMES, classify=lambda _: pytest.fail("asked")
    )
    with pytest.raises(ValueError, match="is a folder; name a file"):
        write(tmp_path)
    with pytest.raises(ValueError, match="is not on a local disk"):
        write("gs://bucket/out.csv")
