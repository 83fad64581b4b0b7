"""Datasets by name: what they hold and how they are read."""

import itertools
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mixnet_tf.data import tfds_splits
from mixnet_tf.data.corruption import naming_corrupt_images
from mixnet_tf.data.digits import ScatteredDigits
from mixnet_tf.data.pipeline import eval_batches, train_batches
from mixnet_tf.data.rules import Reading
from mixnet_tf.data.splits import load_split
from mixnet_tf.export.images import split_images
from mixnet_tf.imagenet import wordnet_ids
from mixnet_tf.recipe import Recipe


def _read(split, **kwargs):
    return list(split.read(**kwargs).as_numpy_iterator())


def test_digits_is_scikit_learns_in_the_stated_split(data_dir):
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(0).permutation(1797)
    train, held_out = load_split("digits", data_dir, True), load_split("digits", data_dir, False)
    assert (train.num_examples, held_out.num_examples, train.num_classes) == (1437, 360, 10)
    assert train.label_names == tuple("0123456789")
    for split, indices in ((train, order[:1437]), (held_out, order[1437:])):
        expected = {
            (np.round(digits.images[i] * 255 / 16).astype("uint8").tobytes(), digits.target[i]) for i in indices
        }
        read = {(tf.io.decode_png(e["image"]).numpy().tobytes(), e["label"]) for e in _read(split)}
        assert read == expected


def test_scattered_digits_are_drawn_from_digits_of_their_own_in_each_split(monkeypatch):
    drawn = {}

    def note(self, indices, num_images, seed):
        drawn[seed] = (set(indices), num_images)

    monkeypatch.setattr(ScatteredDigits, "_generate_examples", note)
    splits = object.__new__(ScatteredDigits)._split_generators(None)
    assert list(splits) == ["train", "validation", "test"] and len(drawn) == 3
    digits = [indices for indices, _ in drawn.values()]
    assert [len(indices) for indices in digits] == [1197, 300, 300]
    assert set().union(*digits) == set(range(1797))
    assert [num_images for _, num_images in drawn.values()] == [8000, 2000, 2000]


@pytest.mark.parametrize("part", [20, pytest.param(1, marks=pytest.mark.soak)])  # one image of so many
def test_scattered_digits_hold_what_they_say(part, tmp_path, monkeypatch):
    generate = ScatteredDigits._generate_examples
    monkeypatch.setattr(
        ScatteredDigits,
        "_generate_examples",
        lambda self, indices, num_images, seed: generate(self, indices, num_images // part, seed),
    )
    names = ("train", "validation", "test")
    scattered = {name: load_split("scattered_digits", tmp_path, False, name) for name in names}
    assert load_split("scattered_digits", tmp_path, True).name == "train"
    assert load_split("scattered_digits", tmp_path, False).name == "validation"
    assert [split.num_examples * part for split in scattered.values()] == [8000, 2000, 2000]
    examples = [example for split in scattered.values() for example in _read(split)]
    labels = [example["label"] for example in examples]
    assert scattered["test"].label_names == tuple("0123456789")
    assert min(np.bincount(labels, minlength=10)) > 0.75 * len(labels) / 10
    images = [tf.io.decode_png(example["image"]).numpy() for example in examples[:200]]
    assert {image.shape for image in images} == {(64, 64, 1)} and len({image.tobytes() for image in images}) == 200
    corner = np.stack(images)[:, :8, :8].astype(float)
    assert 0.05 < np.std(corner) / 255 < 0.3  # noise everywhere


def test_a_scattered_digit_lies_anywhere_in_any_of_its_sizes():
    random = np.random.RandomState(0)
    builder = object.__new__(ScatteredDigits)
    builder._NOISE = builder._BACKGROUND = 0.0
    full, empty = np.ones((8, 8)), np.zeros((4, 8, 8))
    canvases = [builder._canvas(random, full, empty) for _ in range(500)]
    boxes = [np.argwhere(canvas > 0) for canvas in canvases]
    places = np.array([[*box.min(axis=0), *box.max(axis=0)] for box in boxes])
    sides = places[:, 2:] - places[:, :2] + 1
    assert (sides[:, 0] == sides[:, 1]).all() and (sides.min(), sides.max()) == (14, 32)
    assert places.min() == 0 and places.max() == 63
    for canvas, side in zip(canvases, sides[:, 0], strict=True):
        assert np.count_nonzero(canvas) == side**2 and 0.5 <= canvas.max() <= 1


def test_a_dataset_that_another_worker_prepares_at_the_same_time_is_read(tmp_path, monkeypatch):
    prepare = tfds.core.DatasetBuilder.download_and_prepare

    def prepare_too_late(self):
        monkeypatch.undo()
        prepare(tfds.builder("digits", data_dir=tmp_path))
        raise FileExistsError("Destination already exists.")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", prepare_too_late)
    assert len(_read(load_split("digits", tmp_path, False))) == 360


def test_tfrecord_labels_count_from_one_in_the_file_and_from_zero_here(imagenet_shards, photographs):
    split = load_split("tfrecord", imagenet_shards, True)
    assert (split.num_examples, split.num_classes, split.name) == (12, 1000, "train")
    labels = {tf.io.read_file(path).numpy(): label for path, label in zip(photographs.values(), (0, 999), strict=True)}
    examples = _read(split)
    assert [labels[e["image"]] for e in examples] == [e["label"] for e in examples]
    assert len({e["id"] for e in examples}) == 12


def test_imagenets_own_shards_are_not_counted(tmp_path):
    for shard in range(128):
        (tmp_path / f"validation-{shard:05d}-of-00128").touch()
    split = load_split("tfrecord", tmp_path, False)
    assert split.num_examples == 50000 and split.label_names == wordnet_ids()


def test_other_shards_have_no_class_names(imagenet_shards):
    assert load_split("tfrecord", imagenet_shards, True).label_names is None


def test_labels_become_a_models_classes_by_name_however_often_that_is_asked(image_folder):
    split = load_split("folder", image_folder, True)
    matched = split.matched(["flower", "temple", "china"], 3)
    names = [os.path.basename(os.path.dirname(example["id"].decode())) for example in _read(matched)]
    assert [("flower", "temple", "china")[example["label"]] for example in _read(matched)] == names
    again = matched.matched(["flower", "temple", "china"], 3)
    assert (again.label_names, again.notes) == (("flower", "temple", "china"), matched.notes)
    assert matched.notes == ("the dataset has 2 of the model's 3 classes",)


def test_classes_that_tfds_only_counts_have_no_names():
    label = tfds.features.ClassLabel(num_classes=3)
    assert tfds_splits._names(label, "x") is None
    assert tfds_splits._names(tfds.features.ClassLabel(names=["0", "1"]), "x") == ("0", "1")


def test_shards_that_are_missing_are_named_unless_they_may_be(imagenet_shards, tmp_path):
    for shard in (0, 2, 3):
        shutil.copy(f"{imagenet_shards}/train-00000-of-00002", tmp_path / f"train-{shard:05d}-of-00005")
    with pytest.raises(ValueError, match="train-00001-of-00005, train-00004-of-00005.*--allow_missing_shards"):
        load_split("tfrecord", tmp_path, True)
    with pytest.raises(ValueError, match="lacks 2 shards"):
        load_split("tfrecord", tmp_path, True, num_images=18)
    split = load_split("tfrecord", tmp_path, True, allow_missing_shards=True)
    assert split.num_examples == 18 and len(_read(split)) == 18
    assert split.missing_shards == ("train-00001-of-00005", "train-00004-of-00005")


def test_a_whole_copy_misses_nothing_and_files_of_other_names_are_as_many_as_there_are(imagenet_shards, tmp_path):
    assert load_split("tfrecord", imagenet_shards, True).missing_shards == ()
    shutil.copy(f"{imagenet_shards}/train-00000-of-00002", tmp_path / "train-7")
    split = load_split("tfrecord", tmp_path, True)
    assert (split.num_examples, split.missing_shards) == (6, ())


def _relabel(source, target, place, label):
    with tf.io.TFRecordWriter(str(target)) as writer:
        for i, record in enumerate(tf.data.TFRecordDataset(source)):
            example = tf.train.Example.FromString(record.numpy())
            if i == place:
                example.features.feature["image/class/label"].int64_list.value[0] = label
            writer.write(example.SerializeToString())


@pytest.mark.parametrize(
    "read_everywhere", [(0,), pytest.param((0, 1001, -3), marks=pytest.mark.soak)], ids=["one label", "every label"]
)
def test_a_label_that_is_no_class_is_named_with_its_file_and_place(read_everywhere, imagenet_shards, tmp_path):
    folder = tmp_path / "a b é"
    shutil.copytree(imagenet_shards, folder)
    train, validation = (load_split("tfrecord", folder, is_train) for is_train in (True, False))
    batches = train_batches(train, Recipe(image_size=8), 4).take(3), eval_batches(validation, 8, 5)
    for label in (0, 1001, -3):
        for name in ("train-00001-of-00002", "validation-00000-of-00001"):
            _relabel(f"{imagenet_shards}/{name}", folder / name, 3, label)
        readers = (
            (validation, "validation-00000-of-00001", lambda: list(batches[1])),
            (train, "train-00001-of-00002", lambda: list(batches[0])),
            (validation, "validation-00000-of-00001", lambda: split_images(validation, 8, True, 5)),
        )
        for split, file, read in readers if label in read_everywhere else readers[:1]:
            expected = f"The label {label} of {os.path.join(folder, file)}__3 is not a whole number from 1 to 1000."
            with pytest.raises(ValueError, match=expected), naming_corrupt_images(split):
                read()


def test_folder_reads_the_layout_of_tfds(image_folder, photographs):
    train, validation = load_split("folder", image_folder, True), load_split("folder", image_folder, False)
    assert (train.num_examples, validation.num_examples) == (4, 2)
    assert train.label_names == ("china", "flower")
    contents = {tf.io.read_file(photographs[f"{name}.jpg"]).numpy(): i for i, name in enumerate(train.label_names)}
    assert sorted((contents[e["image"]], e["label"]) for e in _read(train)) == [(0, 0), (0, 0), (1, 1), (1, 1)]


def test_the_images_of_a_folder_come_in_the_order_of_tfds(photographs, tmp_path):
    for split, class_name, number in itertools.product(("train", "test"), ("a", "a-b", "B", "c"), range(5)):
        (tmp_path / split / class_name).mkdir(parents=True, exist_ok=True)
        (tmp_path / split / class_name / f"{number}.JPG").write_bytes(f"{class_name} {number}".encode())
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    builder = tfds.ImageFolder(str(tmp_path))
    decoders = {"image": tfds.decode.SkipDecoding()}
    for name, is_train in (("train", True), ("test", False)):
        split = load_split("folder", tmp_path, is_train)
        theirs = list(builder.as_dataset(split=name, decoders=decoders).as_numpy_iterator())
        assert split.label_names == tuple(builder.info.features["label"].names)
        assert [(e["id"], e["label"], e["image"]) for e in _read(split)] == [
            (e["image/filename"], e["label"], e["image"]) for e in theirs
        ]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_is_read_on_another_file_system_and_where_listings_end_folders_with_a_slash(
    slash, image_folder, tmp_path, monkeypatch
):
    here, there = load_split("folder", image_folder, True), f"ram://{tmp_path.name}"
    for folder, _, names in os.walk(image_folder):
        copy = there + folder.removeprefix(image_folder)
        tf.io.gfile.makedirs(copy)
        for name in names:
            tf.io.gfile.copy(os.path.join(folder, name), f"{copy}/{name}")
    listdir = tf.io.gfile.listdir
    monkeypatch.setattr(
        tf.io.gfile,
        "listdir",
        lambda folder: [n + slash if tf.io.gfile.isdir(f"{folder}/{n}") else n for n in listdir(folder)],
    )
    split = load_split("folder", there, True)
    assert (split.name, split.label_names, split.num_examples) == ("train", here.label_names, here.num_examples)
    expected = [e["id"].decode().replace(image_folder, there).encode() for e in _read(here)]
    assert [e["id"] for e in _read(split)] == expected
    assert [(e["image"], e["label"]) for e in _read(split)] == [(e["image"], e["label"]) for e in _read(here)]


def test_a_folder_without_images_or_of_another_layout_is_refused(tmp_path, photographs):
    with pytest.raises(ValueError, match="holds no folders; expected data_dir/CLASS/"):
        load_split("folder", tmp_path, True)
    (tmp_path / "train").mkdir()
    shutil.copy(photographs["china.jpg"], tmp_path / "train")
    with pytest.raises(ValueError, match="has no images; expected .*/train/class/"):
        load_split("folder", tmp_path, True)


@pytest.mark.parametrize("dataset", ["digits", "tfrecord", "folder"])
@pytest.mark.parametrize("shuffle_seed", [None, 5])
def test_shards_are_disjoint_and_whole(dataset, shuffle_seed, data_dir, imagenet_shards, image_folder):
    folder = {"digits": data_dir, "tfrecord": imagenet_shards, "folder": image_folder}[dataset]
    split = load_split(dataset, folder, dataset != "digits")
    shards = [_read(split, shuffle_seed=shuffle_seed, shard=i, num_shards=2) for i in range(2)]
    assert [len(shard) for shard in shards] == [split.shard_size(i, 2) for i in range(2)]
    ids = [e["id"] for own in shards for e in own]
    assert len(set(ids)) == len(ids) == split.num_examples


def test_the_seed_decides_the_order_of_files(imagenet_shards):
    split = load_split("tfrecord", imagenet_shards, True)
    orders = [tuple(e["id"] for e in _read(split, shuffle_seed=seed)) for seed in (3, 6, 7, 3, 3)]
    assert len(set(orders)) == 2 and orders[0] == orders[3] == orders[4]


@pytest.mark.parametrize("name", ["train[:80%]", "train[80%:]", "train[10:30]+test[:7]"])
def test_a_part_of_a_split_by_the_syntax_of_tfds_is_read_like_a_whole_one(name, data_dir):
    split = load_split("digits", data_dir, True, name)
    images = {"train[:80%]": 1150, "train[80%:]": 287, "train[10:30]+test[:7]": 27}[name]
    assert (split.name, split.num_examples, split.num_classes) == (name, images, 10)
    whole = {
        example["id"] for part in ("train", "test") for example in _read(load_split("digits", data_dir, True, part))
    }
    shards = [[e["id"] for e in _read(split, shuffle_seed=3, shard=i, num_shards=3)] for i in range(3)]
    assert [len(shard) for shard in shards] == [split.shard_size(i, 3) for i in range(3)]
    ids = [each for shard in shards for each in shard]
    assert len(set(ids)) == len(ids) == images and set(ids) <= whole
    assert sorted(e["id"] for e in _read(split)) == sorted(ids)


def test_a_part_resumes_at_the_image_where_it_was(data_dir):
    split = load_split("digits", data_dir, True, "train[:20%]")
    recipe = Recipe(image_size=8, crop=False)
    images = [list(train_batches(split, recipe, 40, first).take(9 - first // 40)) for first in (0, 120, 320)]
    for resumed in images[1:]:
        for batch, expected in zip(resumed, images[0][-len(resumed) :], strict=True):
            np.testing.assert_array_equal(batch[0], expected[0])
            np.testing.assert_array_equal(batch[1], expected[1])


def test_parts_know_which_others_they_have_images_in_common_with(data_dir):
    split = load_split("digits", data_dir, False, "train[:80%]")
    shared = {
        "train": True,
        "train[80%:]": False,
        "train[79%:]": True,
        "test": False,
        "train[1149:]+test": True,
        "train[1150:]+test": False,
        "all": True,
        "gone": False,
    }
    assert {name: split.shares_images(name) for name in shared} == shared


@pytest.mark.parametrize(
    "name, message",
    [
        ("dev[:3]", "'dev\\[:3\\]' of dataset 'digits': Unknown split 'dev'. .* Expected one of"),
        ("train[:80%", "Error parsing split .* Expected one of \\['train', 'test'\\]"),
        ("train[:0%]", "has no images; it is an empty part"),
        ("train[5:3]", "has no images; it is an empty part"),
    ],
)
def test_a_part_that_is_not_there_is_named(name, message, data_dir):
    with pytest.raises(ValueError, match=message):
        load_split("digits", data_dir, True, name)


def test_a_dataset_with_one_split_says_how_to_divide_it(tmp_path, monkeypatch):
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a", "b"])}
    with tfds.core.registered.skip_registration():
        builder = _builder(features, ["train"])(data_dir=tmp_path)
    monkeypatch.setattr(tfds, "builder", lambda asked, data_dir: builder)
    with pytest.raises(
        ValueError, match=r"only split is 'train'. .* --train_split='train\[:80%\]' --eval_split='train"
    ):
        load_split("made", tmp_path, False)


def test_tfrecords_have_as_many_classes_as_they_are_said_to(imagenet_shards, tmp_path):
    _relabel(f"{imagenet_shards}/validation-00000-of-00001", tmp_path / "validation-00000-of-00001", 3, 5)
    for place in (1, 2, 3, 4):  # all labels of these images are 1 or 1000
        source = tmp_path / "source"
        shutil.copy(tmp_path / "validation-00000-of-00001", source)
        _relabel(source, tmp_path / "validation-00000-of-00001", place, place)
    split = load_split("tfrecord", tmp_path, False, reading=Reading(num_label_classes=4))
    assert split.num_classes == 4 and [e["label"] for e in _read(split)] == [0, 0, 1, 2, 3]
    split = load_split("tfrecord", tmp_path, False, reading=Reading(num_label_classes=3))
    with pytest.raises(ValueError, match="The label 4 of .* is not a whole number from 1 to 3"):
        with naming_corrupt_images(split):
            _read(split)


@pytest.mark.parametrize(
    "dataset, kwargs, message",
    [
        ("no_such_dataset", {}, "Unknown dataset 'no_such_dataset'"),
        ("digits", {"split": "dev"}, r"no split dev; it has \['train', 'test'\]|no split dev"),
        ("digits", {"num_images": 3}, "num_images and .* go with"),
        ("digits", {"allow_missing_shards": True}, "allow_missing_shards go with"),
        ("tfrecord", {}, r"no files train-\*"),
        ("folder", {"data_dir": "/no/such/folder"}, "there is no folder"),
    ],
)
def test_what_is_not_there_is_named(dataset, kwargs, message, data_dir):
    arguments = {"data_dir": data_dir, **kwargs}
    with pytest.raises(ValueError, match=message):
        load_split(dataset, arguments.pop("data_dir"), True, **arguments)


def test_a_dataset_prepared_as_array_record_is_named(tmp_path):
    pytest.importorskip("array_record")
    tfds.builder("digits", data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(ValueError, match="'digits' in .* is prepared as array_record, which"):
        load_split("digits", tmp_path, True)


def test_imagenet_without_its_archives_says_where_they_go(tmp_path):
    with pytest.raises(ValueError, match="manual"):
        load_split("imagenet2012", tmp_path, True)


def _builder(features, splits):
    """A tfds builder of those features, with an image for each class in each split, of the class's number."""

    class Made(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            described = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=described, supervised_keys=("image", "label"))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples() for split in splits}

        def _generate_examples(self):
            for label in range(features["label"].num_classes):
                others = {
                    "id": f"{label}",
                    "coarse_label": 0,
                    "species": 0,
                    "file_name": f"{label}.jpg",
                    "segmentation_mask": np.zeros((5, 4, 1), np.uint8),
                }
                shape = tuple(size or place + 4 for place, size in enumerate(features["image"].shape))
                example = {"image": np.full(shape, label, np.uint8), "label": label}
                yield label, {**example, **{key: others[key] for key in features if key in others}}

    return Made


_IMAGE, _TEXT = tfds.features.Image(), tfds.features.Text()


def _of(classes):
    return tfds.features.ClassLabel(num_classes=classes)


@pytest.mark.parametrize(
    "name, features, eval_split",
    [
        ("cifar10", {"id": _TEXT, "image": tfds.features.Image(shape=(32, 32, 3)), "label": _of(10)}, "test"),
        (
            "cifar100",
            {"id": _TEXT, "coarse_label": _of(20), "image": tfds.features.Image(shape=(32, 32, 3)), "label": _of(100)},
            "test",
        ),
        (
            "oxford_iiit_pet",
            {
                "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
                "species": _of(2),
                "file_name": _TEXT,
                "image": _IMAGE,
                "label": _of(37),
            },
            "test",
        ),
        ("food101", {"image": _IMAGE, "label": _of(101)}, "validation"),
    ],
)
def test_the_data_sets_of_the_papers_transfer_are_read_by_their_features(
    name, features, eval_split, tmp_path, monkeypatch
):
    with tfds.core.registered.skip_registration():
        builder = _builder(features, ("train", eval_split))(data_dir=tmp_path)
    monkeypatch.setattr(tfds, "builder", lambda asked, data_dir: builder)
    for train, split_name in ((True, "train"), (False, eval_split)):
        split = load_split(name, tmp_path, train)
        assert (split.name, split.num_classes) == (split_name, features["label"].num_classes)
        read = {int(example["label"]): tf.io.decode_image(example["image"]).numpy().max() for example in _read(split)}
        assert read == {label: label for label in range(split.num_classes)}
