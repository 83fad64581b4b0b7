"""Folders of images as people have them: what is a class, what is an image, and in which order they come."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.data import Reading, list_images, load_split, train_batches, train_examples
from mixnet_tf.recipe import Recipe

_RECIPE = Recipe(image_size=8, crop=False, flip=False)
_PNG = tf.io.encode_png(tf.fill((4, 4, 3), tf.cast(9, tf.uint8))).numpy()


def _write(root, *paths, content=_PNG):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def _ids(split, count=None, **kwargs):
    examples = train_examples(split, _RECIPE, **kwargs).take(split.num_examples if count is None else count)
    return [example["id"].decode() for example, _ in examples.as_numpy_iterator()]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder of 30 cats and 11 dogs to train, and one of each to test."""
    names = [f"train/cat/{i}.png" for i in range(30)] + [f"train/dog/{i}.png" for i in range(11)]
    return _write(tmp_path_factory.mktemp("pets"), *names, "test/cat/0.png", "test/dog/0.png")


def test_a_folder_of_more_images_than_the_buffer_of_other_datasets_is_shuffled_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("mixnet_tf.data.pipeline._SHUFFLE_BUFFER", 50)
    number = 400
    _write(tmp_path, *(f"train/{i % 2}/{i}.png" for i in range(number)), content=b"")
    split = load_split("folder", tmp_path, True)
    ids = _ids(split, 2 * number)
    first, second = ({path: place for place, path in enumerate(part)} for part in (ids[:number], ids[number:]))
    assert len(first) == len(second) == number and set(first) == set(second)
    places = np.array([(first[path], second[path]) for path in first]).T
    assert abs(np.corrcoef(places)[0, 1]) < 0.1


def test_a_run_that_resumes_reads_no_file_that_it_does_not_use(pets, tmp_path):
    root = shutil.copytree(pets, tmp_path / "pets")
    split = load_split("folder", root, True)
    unbroken = _ids(split, 60)
    for path in unbroken[:30]:
        os.remove(path)
    assert _ids(split, 11, first_image=30) == unbroken[30:41]
    with pytest.raises(tf.errors.NotFoundError):  # of the next epoch
        _ids(split, 41, first_image=30)


@pytest.mark.parametrize(
    "num_shards, use_cache",
    [
        (1, False),
        (3, True),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in ((1, True), (3, False))),
    ],
)
def test_hosts_have_shares_of_their_own_of_equal_numbers_and_each_epoch_an_order_of_its_own(
    pets, num_shards, use_cache
):
    split = load_split("folder", pets, True)
    size = split.num_examples // num_shards
    shares = []
    for shard in range(num_shards):
        options = {"shard": shard, "num_shards": num_shards, "use_cache": use_cache}
        ids = _ids(split, 3 * size, **options)
        epochs = [ids[start : start + size] for start in (0, size, 2 * size)]
        assert all(len(set(epoch)) == size for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]
        assert _ids(split, 2 * size, first_image=size // 2, **options) == ids[size // 2 : size // 2 + 2 * size]
        shares.append(set(ids))
    assert sum(map(len, shares)) == len(set().union(*shares)) <= split.num_examples


def test_the_seed_decides_the_order_of_a_folder(pets):
    split = load_split("folder", pets, True)
    orders = {
        tuple(e["id"] for e, _ in train_examples(split, Recipe(seed=seed)).take(41).as_numpy_iterator())
        for seed in (1, 1, 2)
    }
    assert len(orders) == 2


def test_what_people_and_systems_leave_in_folders_is_no_class_and_no_image(pets, tmp_path):
    root = shutil.copytree(pets, tmp_path / "pets")
    _write(root, "train/.ipynb_checkpoints/a.png", "train/__MACOSX/a.png", "train/.hidden/a.png", "old/zebra/a.png")
    _write(root, "train/cat/._0.png", "train/cat/Thumbs.db", "train/cat/desktop.ini", "train/cat/.b.png")
    _write(root, "run/checkpoints/a.index", "run/tensorboard/events", "train/run/checkpoints/ckpt-1.index")
    (root / "train/run/config.json").write_text('{"model_name": "mixnet-s", "recipe": {}}')
    splits = [load_split("folder", root, is_train) for is_train in (True, False)]
    assert [split.label_names for split in splits] == [("cat", "dog")] * 2
    assert [split.num_examples for split in splits] == [41, 2]


def test_the_classes_of_a_split_are_its_own(tmp_path):
    _write(tmp_path, "train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/owl/0.png", "dev/fox/0.png")
    names = [load_split("folder", tmp_path, False, split).label_names for split in ("train", "test", "dev")]
    assert names == [("cat", "dog"), ("cat", "owl"), ("fox",)]
    assert load_split("folder", tmp_path, True, reading=Reading(0)).label_names == ("cat", "dog", "fox", "owl")


def test_a_class_without_an_image_is_named(pets, tmp_path, logged):
    root = shutil.copytree(pets, tmp_path / "pets")
    (root / "train" / "mouse").mkdir()
    assert load_split("folder", root, True).label_names == ("cat", "dog", "mouse")
    assert "Split 'train' has no image of class 'mouse'." in logged()


def test_every_kind_of_image_is_read_and_the_others_are_counted(tmp_path, logged):
    pixels = tf.fill((4, 4, 3), tf.cast(9, tf.uint8))
    jpeg, png = tf.io.encode_jpeg(pixels, quality=100).numpy(), tf.io.encode_png(pixels).numpy()
    for name, content in {
        "a.jpg": jpeg,
        "b.JPEG": jpeg,
        "c.jfif": jpeg,
        "d.png": png,
        "e.bmp": png,
        "f.gif": png,
    }.items():
        _write(tmp_path, f"data/train/x/{name}", f"images/{name}", content=content)
    tmp_path, images = tmp_path / "data", tmp_path / "images"
    _write(tmp_path, "train/x/a.tif", "train/x/b.TIF", "train/x/README", "train/x/sub/a.png", "train/x/g.webp")
    split = load_split("folder", tmp_path, True)
    assert split.num_examples == 7 and len(list_images(images)) == 6
    assert "Split 'train': left out what is no image: 2 .tif, 1 folder, 1 without an ending." in logged()
    [(images, _)] = train_batches(split, _RECIPE, 7).take(1)
    np.testing.assert_allclose(images, 9, atol=1)


def test_webp_is_left_out_and_counted_where_tensorflow_does_not_decode_it(tmp_path, logged, monkeypatch):
    monkeypatch.setattr("mixnet_tf.data.decoding.decodes_webp", lambda: False)
    _write(tmp_path, "train/x/a.png", "train/x/b.webp")
    assert load_split("folder", tmp_path, True).num_examples == 1
    assert "1 .webp" in logged()


def test_a_folder_called_as_an_image_is_left_out(tmp_path, logged):
    _write(tmp_path, "train/x/a.png", "train/x/b.png/c.png")
    assert load_split("folder", tmp_path, True).num_examples == 1
    assert "left out what is no image: 1 folder." in logged()


@pytest.mark.parametrize("data_version", [0, 1])
def test_a_link_to_an_image_that_is_not_there_is_named(data_version, tmp_path):
    _write(tmp_path, "train/x/a.png")
    (tmp_path / "train/x/b.png").symlink_to(tmp_path / "gone.png")
    for read in (
        lambda: load_split("folder", tmp_path, True, reading=Reading(data_version)),
        lambda: list_images(tmp_path / "train/x"),
    ):
        with pytest.raises(ValueError, match="b.png is a symbolic link to .*gone.png, which is not there"):
            read()


@pytest.mark.parametrize("data_version", [0, 1])
def test_a_name_that_is_not_utf_8_is_named(data_version, tmp_path):
    _write(tmp_path, "train/x/a.png")
    with open(os.fsencode(tmp_path / "train/x") + b"/\xff.png", "wb") as file:
        file.write(_PNG)
    with pytest.raises(ValueError, match=r"train/x holds '\\udcff.png', a name that is not UTF-8"):
        load_split("folder", tmp_path, True, reading=Reading(data_version))


def test_a_folder_of_images_without_any_names_what_is_read(tmp_path):
    _write(tmp_path, "a.tiff")
    with pytest.raises(ValueError, match=r"holds no images; expected files that end in one of \.jpg, .*\.gif"):
        list_images(tmp_path)
