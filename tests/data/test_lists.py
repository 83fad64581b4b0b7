"""Lists of images, their classes and splits: what is read, and which row is wrong."""

import json
import os

import pytest
import tensorflow as tf

from mixnet_tf.data import MissingSplitError, Reading, load_split

_NAMES = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(20)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of 20 cats and 20 dogs."""
    root = tmp_path_factory.mktemp("images")
    for name in _NAMES:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def _load(root, path, train=True, split=None, **how):
    return load_split("list", root, train, split, reading=Reading(list=str(path), **how))


def _csv(path, *rows, header="path,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _rows(names):
    return [f"{name},{name.split('/')[0]}" for name in names]


def _ids(split):
    return {os.fsdecode(path) for path in split.ids.numpy()}


def test_a_list_without_splits_is_divided_like_a_flat_folder(images, tmp_path, logged):
    path = _csv(tmp_path / "labels.csv", *_rows(_NAMES))
    for train, name in ((True, None), (False, None), (False, "all")):
        split, same = _load(images, path, train, name), load_split("folder", images, train, name)
        assert (split.dataset, split.name, split.label_names) == ("list", same.name, ("cat", "dog"))
        assert _ids(split) == _ids(same) and split.class_counts == same.class_counts
        assert (split.validation_fraction, split.hash_version, split.list_path) == (0.2, 1, str(path))
    assert (
        f"{path}: 40 images in 2 classes; in a class, smallest 20 ('cat'), median 20, largest 20 ('cat')." in logged()
    )


def test_the_order_of_rows_does_not_matter(images, tmp_path):
    one, other = (_csv(tmp_path / f"{step}.csv", *_rows(_NAMES[::step])) for step in (1, -1))
    assert _load(images, one).ids.numpy().tolist() == _load(images, other).ids.numpy().tolist()


def test_the_splits_of_a_list_are_its_own(images, tmp_path):
    rows = ["cat/0.png,cat,train", "dog/0.png,dog,train", "cat/1.png,cat,val", "dog/1.png,owl,test"]
    path = _csv(tmp_path / "labels.csv", *rows, header="path,label,split")
    found = [(split.name, split.label_names, split.num_examples) for split in (_load(images, path, t) for t in (1, 0))]
    assert found == [("train", ("cat", "dog"), 2), ("test", ("owl",), 1)]
    assert _load(images, path, False, "val").class_counts == (1,)
    with pytest.raises(MissingSplitError, match=r"has no split eval; it has \['train', 'test', 'val'\]"):
        _load(images, path, False, "eval")
    with pytest.raises(ValueError, match="validation_fraction=0.3: .*labels.csv has splits of its own"):
        _load(images, path, validation_fraction=0.3)


def test_json_lines_are_read_like_csv(images, tmp_path):
    rows = [{"path": name, "label": number % 3, "split": "train"} for number, name in enumerate(_NAMES)]
    (tmp_path / "labels.jsonl").write_text("\r\n".join(map(json.dumps, rows)))
    split = _load(images, tmp_path / "labels.jsonl")
    assert split.label_names == ("0", "1", "2") and split.class_counts == (14, 13, 13)


@pytest.mark.parametrize(
    "labels, expected",
    [
        (("10", "9", "1"), ("1", "9", "10")),
        (("10", "9", "x"), ("10", "9", "x")),
        (("-1", "1", "0"), ("-1", "0", "1")),
        (("b", "a", "C"), ("C", "a", "b")),
    ],
)
def test_classes_are_in_order_of_number_if_all_are_whole_numbers_else_of_name(labels, expected, images, tmp_path):
    path = _csv(tmp_path / "a.csv", *(f"{name},{label}" for name, label in zip(_NAMES, labels, strict=False)))
    assert _load(images, path, False, "all").label_names == expected


def test_a_list_as_spreadsheets_write_it(images, tmp_path):
    text = 'path, label\r\n"cat/0.png", "a cat, asleep"\r\n\r\ncat\\1.png, b\r\n./dog/../dog/1.png,b \r\n'
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    split = _load(images, tmp_path / "labels.csv", False, "all")
    assert split.label_names == ("a cat, asleep", "b") and split.class_counts == (1, 2)
    assert _ids(split) == {f"{images}/{name}" for name in ("cat/0.png", "cat/1.png", "dog/1.png")}


def test_the_list_and_its_images_are_found_beside_each_other(images, tmp_path, monkeypatch):
    path = _csv(images / "here.csv", *_rows(_NAMES))
    assert _ids(_load(images, "here.csv")) == _ids(_load(images, path)) == _ids(_load(tmp_path, path))
    os.remove(path)
    with pytest.raises(FileNotFoundError, match="there is no file here.csv, neither from here nor in data_dir"):
        _load(images, "here.csv")
    with pytest.raises(ValueError, match="needs the file that names the images, --list=FILE"):
        load_split("list", images, True)


def test_each_folder_is_listed_once_and_no_file_is_asked_for_on_remote_storage(images, tmp_path, monkeypatch):
    there = f"ram://{tmp_path.name}"
    for name in _NAMES:
        tf.io.gfile.makedirs(os.path.dirname(f"{there}/{name}"))
        tf.io.gfile.copy(images / name, f"{there}/{name}")
    path = _csv(tmp_path / "labels.csv", *_rows(_NAMES))
    listed, listdir = [], tf.io.gfile.listdir
    monkeypatch.setattr(tf.io.gfile, "listdir", lambda folder: listed.append(folder) or listdir(folder))
    monkeypatch.setattr(tf.io.gfile, "stat", None)
    split = _load(there, path)
    assert listed == [f"{there}/cat", f"{there}/dog"] and split.num_examples == _load(images, path).num_examples


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "row 1: expected the columns path, label and, if wanted, split; received none."),
        ("path,label,splitt\n", "row 1: expected the columns path, .*; received 'path', 'label', 'splitt'."),
        ("cat/0.png,cat\n", "row 1: expected the columns path, label and, .*; received 'cat/0.png', 'cat'."),
        ("path,label\n", "names no images; expected the columns path, label"),
        ("path,label\ncat/0.png,cat\n\ncat/77.png,cat\n", "row 4: there is no file .*/cat/77.png or .*/cat/77.png."),
        ("path,label\ncat,cat\n", "row 2: there is no file .*/cat"),
        ("path,label\ncat/0.png,a\n./cat/0.png,b\n", "row 3: cat/0.png is the file of row 2, too."),
        ("path,label\na.tif,a\n", "row 2: a.tif is no image; expected a file that ends in one of .jpg"),
        ("path,label\ncat/0.png, \n", "row 2: label: expected a text that is not empty, received ''"),
        ("path,label\n,cat\n", "row 2: path: expected a text that is not empty"),
        ("path,label\ncat/0.png,a,b\n", r"row 2: it has 3 values for 2 columns: \['cat/0.png', 'a', 'b'\]"),
        ("path,label,split\ncat/0.png,a,trian\n", "row 2: split: expected one of train, .*, eval, received 'trian'"),
        ("path,label,split\ncat/0.png,a,\n", "row 2: split: expected a text that is not empty"),
        ('path,label\ncat/0.png,"a\n', "row 2: unexpected end of data"),
        ('path,label\ncat/0.png,a\ncat/1.png,"a\nb"\n', "class 1 is named 'a.nb'; expected a name of one line"),
        (
            "path,label\ncat/0.png,a\nx.png,a\ny.png,b\nz.png,b\n",
            r"row 3: there is no file .*x.png. More wrong rows: 2.$",
        ),
        (
            '{"path": "cat/0.png", "label": 1}\n{"path": "cat/1.png"}\n',
            "row 2: expected the columns .* received 'path'",
        ),
        ('{"path": "cat/0.png", "label": 1.5}\n', "row 1: label: expected a text that is not empty, received 1.5"),
        ('{"path": "cat/0.png", "label": true}\n', "row 1: label: expected a text that is not empty, received True"),
        ('{"path": "cat/0.png", "label": 1\n', "row 1: it is not valid JSON"),
        ('{"path": "cat/0.png", "label": 1}\n[2]\n', r"row 2: it is no JSON object: \[2\]"),
        (
            '{"path": "cat/0.png", "label": 1, "split": "train"}\n{"path": "cat/1.png", "label": 1}\n',
            "row 2: either all rows have a split, or none",
        ),
    ],
)
def test_a_wrong_row_is_named_before_anything_is_read(text, message, images, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=f"^list: {tmp_path}/labels.csv.*{message}") as error:
        _load(images, tmp_path / "labels.csv")
    assert "\n" not in str(error.value)


def test_a_link_to_a_file_that_is_not_there_is_a_missing_file(images, tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "b.png").symlink_to(images / "cat/0.png")
    path = _csv(tmp_path / "labels.csv", "b.png,b", "a.png,a")
    with pytest.raises(ValueError, match="row 3: there is no file"):
        _load(tmp_path, path)
