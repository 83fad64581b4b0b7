"""Folders of classes without splits: when a folder is one, and how its images are divided."""

import os
import shutil

import pytest
import tensorflow as tf

from mixnet_tf.data import MissingSplitError, Reading, folders, hold_out, load_split
from mixnet_tf.imagenet import wordnet_ids


def _write(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def _names(split):
    return {"/".join(os.fsdecode(path).split("/")[-2:]) for path in split.ids.numpy()}


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder of 60 cats, 25 dogs and 2 images of a class called "train"."""
    numbers = {"cat": 60, "dog": 25, "train": 2}
    return _write(
        tmp_path_factory.mktemp("pets"), *(f"{name}/{i}.png" for name, n in numbers.items() for i in range(n))
    )


def test_the_images_of_class_folders_are_divided(pets):
    train, validation, whole = (load_split("folder", pets, *asked) for asked in ((True,), (False,), (False, "all")))
    assert [split.name for split in (train, validation, whole)] == ["train", "validation", "all"]
    assert train.label_names == validation.label_names == whole.label_names == ("cat", "dog", "train")
    assert _names(train) | _names(validation) == _names(whole) and not _names(train) & _names(validation)
    assert (whole.num_examples, whole.class_counts) == (87, (60, 25, 2))
    assert sum(train.class_counts) == train.num_examples and 10 < validation.num_examples < 25
    assert {split.validation_fraction for split in (train, validation, whole)} == {0.2}
    assert {split.hash_version for split in (train, validation, whole)} == {1}
    classes = {path.decode().split("/")[-2] for path in tf.boolean_mask(train.ids, _labels(train) == 1).numpy()}
    assert classes == {"dog"}
    assert whole.shares_images("train") and train.shares_images("all") and not train.shares_images("validation")


def _labels(split):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.io, "read_file", tf.identity)
        return tf.stack([example["label"] for example in split.read()])


def test_another_fraction_and_more_images_move_no_image_to_training(pets, tmp_path):
    held = _names(load_split("folder", pets, False))
    root = _write(shutil.copytree(pets, tmp_path / "copy"), *(f"cat/new {number}.png" for number in range(30)))
    with_more = load_split("folder", root, False, reading=Reading(validation_fraction=0.2))
    assert {name for name in _names(with_more) if "new" not in name} == held
    larger = load_split("folder", pets, False, reading=Reading(validation_fraction=0.5))
    assert held < _names(larger) and larger.validation_fraction == 0.5
    assert _names(load_split("folder", pets, False, reading=Reading(default_fraction=0.5))) == _names(larger)


def test_the_screen_has_the_images_of_each_class_and_what_was_left_out(pets, tmp_path, logged):
    root = _write(shutil.copytree(pets, tmp_path / "copy"), "cat/notes.txt", "cat/old/1.png", "zebra/a.tif", "list.csv")
    (root / "fish").mkdir()
    _write(root, ".cache/a.png", "run/final.keras")
    (root / "run/config.json").write_text('{"model_name": "mixnet-s", "recipe": {}}')
    split = load_split("folder", root, True)
    assert split.label_names == ("cat", "dog", "train")
    held = 87 - split.num_examples
    assert logged().splitlines() == [
        f"{root}: 87 images in 3 classes; in a class, smallest 2 ('train'), median 25, largest 60 ('cat').",
        f"0.2 of the images, by a hash of their path, are the split 'validation': {held}.",
        f"{root}: left out what is no image: 1 .txt, 1 folder.",
        f"{root}: left out the folders 'fish', 'run', 'zebra', which hold no images or are of a run.",
        f"{root}: left out files that are in no class's folder: 1.",
    ]
    validation = load_split("folder", root, False)
    assert validation.class_counts[2] == 0
    lines = logged().splitlines()
    assert lines[0].startswith(f"Split 'validation': {held} images in 2 classes; in a class, smallest ")
    assert lines[1:] == ["Split 'validation' has no image of class 'train'."]


def test_a_class_keeps_an_image_to_train_on_whatever_the_fraction(tmp_path):
    _write(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)))
    train = load_split("folder", tmp_path, True, reading=Reading(validation_fraction=0.999))
    assert train.class_counts == (1, 1)


@pytest.mark.parametrize("split_named", ["train", "validation", "test", "val", "eval"])
def test_a_folder_named_like_a_split_is_a_split_only_if_it_holds_folders(split_named, tmp_path):
    _write(tmp_path, "cat/0.png", f"{split_named}/1.png")
    assert load_split("folder", tmp_path, True).label_names == tuple(sorted(("cat", split_named)))
    _write(tmp_path, f"{split_named}/dog/2.png")
    with pytest.raises(ValueError, match=f"both classes, .* such as 'cat', and splits, .* such as '{split_named}'"):
        load_split("folder", tmp_path, True)
    shutil.rmtree(tmp_path / "cat")
    assert load_split("folder", tmp_path, True, split_named).label_names == ("dog",)


def test_a_mix_of_classes_and_splits_shows_some_of_each(tmp_path):
    _write(tmp_path, "train/cat/0.png", "test/cat/0.png", *(f"class {number}/0.png" for number in range(9)))
    with pytest.raises(ValueError, match="'class 0', 'class 1', 'class 2' and 6 more, and splits, .*'test', 'train'"):
        load_split("folder", tmp_path, True)


def test_unlabelled_images_beside_splits_are_no_class(tmp_path, logged):
    _write(tmp_path, "train/cat/0.png", "validation/cat/0.png", "test/0.png", "test/1.png")
    assert [load_split("folder", tmp_path, train).label_names for train in (True, False)] == [("cat",), ("cat",)]
    assert "left out the folders 'test', which hold images but no classes" in logged()
    with pytest.raises(ValueError, match="Split 'test' of dataset 'folder' has no images; expected .*/test/class/"):
        load_split("folder", tmp_path, False, "test")


def test_the_rules_of_0_2_0_find_no_flat_folders(pets):
    for train in (True, False):
        with pytest.raises(ValueError, match="has no images|has no split"):
            load_split("folder", pets, train, reading=Reading(0))


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"split": "test"}, r"has no split test; it has \['train', 'validation', 'all'\]"),
        ({"reading": Reading(validation_fraction=0.001)}, "none of the 87 images has a hash below .*=0.001; give a"),
        ({"reading": Reading(validation_fraction=1)}, "validation_fraction: expected a number above 0 and below 1"),
        ({"reading": Reading(validation_fraction="half")}, "validation_fraction: .* received 'half'"),
        ({"reading": Reading(list="a.csv")}, "list='a.csv' goes with --dataset=list; the dataset is 'folder'"),
    ],
)
def test_what_a_flat_folder_cannot_give_is_refused(asked, message, pets):
    with pytest.raises(ValueError, match=message):
        load_split("folder", pets, False, **asked)


def test_a_fraction_is_refused_where_the_dataset_has_splits(tmp_path, data_dir):
    _write(tmp_path, "train/cat/0.png")
    with pytest.raises(ValueError, match="validation_fraction=0.1: .* has splits of its own, such as 'train'"):
        load_split("folder", tmp_path, True, reading=Reading(validation_fraction=0.1))
    assert load_split("folder", tmp_path, True, reading=Reading(default_fraction=0.1)).validation_fraction is None
    with pytest.raises(ValueError, match="goes with --dataset=folder and --dataset=list; 'digits' has splits"):
        load_split("digits", data_dir, True, reading=Reading(validation_fraction=0.1))


def test_a_folder_without_a_split_to_evaluate_on_says_how_to_hold_images_out(tmp_path):
    _write(tmp_path, "train/cat/0.png")
    with pytest.raises(MissingSplitError, match=f"To hold out some of its images, give {tmp_path}/train as data_dir"):
        load_split("folder", tmp_path, False)
    _write(tmp_path, "flowers/train/cat/0.png")
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(MissingSplitError, match="If these hold the classes, give one of them as data_dir"):
        load_split("folder", tmp_path, True)


def test_each_class_folder_is_listed_once(pets, monkeypatch):
    listed, names = [], folders._names
    monkeypatch.setattr(folders, "_names", lambda folder: listed.append(folder) or names(folder))
    load_split("folder", pets, True)
    assert sorted(listed) == [str(pets), *(f"{pets}/{name}" for name in ("cat", "dog", "train"))]


def test_a_flat_folder_on_remote_storage_is_divided_like_a_local_one(pets, tmp_path):
    there = f"ram://{tmp_path.name}"
    for folder, _, files in os.walk(pets):
        copy = there + folder.removeprefix(str(pets))
        tf.io.gfile.makedirs(copy)
        for name in files:
            tf.io.gfile.copy(os.path.join(folder, name), f"{copy}/{name}")
    assert _names(load_split("folder", there, False)) == _names(load_split("folder", pets, False))


def test_what_a_search_holds_out_is_a_part_of_the_training_images(pets):
    train = load_split("folder", pets, True)
    rest, held = hold_out(train, 0.3)
    assert _names(rest) | _names(held) == _names(train) and not _names(rest) & _names(held)
    assert rest.num_examples + held.num_examples == train.num_examples and rest.hash_version == 1
    assert rest.class_counts is held.class_counts is None


def test_images_are_turned_by_exif_unless_the_classes_are_imagenets(pets, tmp_path):
    assert load_split("folder", pets, True).rules.exif
    assert not load_split("folder", pets, True, reading=Reading(exif=False)).rules.exif
    _write(tmp_path, *(f"{name}/{number}.png" for name in wordnet_ids() for number in range(2)))
    assert not load_split("folder", tmp_path, True).rules.exif
    assert load_split("folder", tmp_path, True, reading=Reading(exif=True)).rules.exif
    shutil.rmtree(tmp_path / wordnet_ids()[0])
    assert load_split("folder", tmp_path, True).rules.exif


def test_the_counts_of_classes_follow_the_labels_to_a_models_classes(pets):
    split = load_split("folder", pets, False, "all").matched(("train", "owl", "dog", "cat"), 4)
    assert split.class_counts == (2, 0, 25, 60) and split.matched(split.label_names, 4).class_counts == (2, 0, 25, 60)
