"""Images held out of a split: every image in one part, wherever the data is and however it is read."""

import shutil

import pytest
import tensorflow as tf

from mixnet_tf.data import Reading, hold_out, load_split, train_examples
from mixnet_tf.recipe import Recipe

# Of the shards of `imagenet_shards` in a folder called "imagenet".
_HELD_BY_0_2_0 = [
    f"train-{shard:05d}-of-00002__{place}" for shard, place in ((0, 0), (1, 0), (0, 1), (0, 3), (1, 3), (0, 4), (0, 5))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder root/train/class/file of 20 images."""
    root = tmp_path_factory.mktemp("images")
    for number in range(20):
        image = root / "train" / f"class_{number % 2}" / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(tf.io.encode_png(tf.zeros((4, 4, 3), tf.uint8)).numpy())
    return str(root)


def _ids(split, shard=0, num_shards=1):
    return [example["id"].numpy().decode() for example in split.read(None, shard, num_shards)]


def test_every_image_is_in_one_part_whatever_the_shards(data_dir):
    split = load_split("digits", data_dir, False)
    rest, held = hold_out(split, 0.2)
    there, out = _ids(rest), _ids(held)
    assert len(there) == rest.num_examples and len(out) == held.num_examples
    assert sorted(there + out) == sorted(_ids(split))
    assert 0.15 < held.num_examples / split.num_examples < 0.25
    assert sorted(_ids(rest, 0, 2) + _ids(rest, 1, 2)) == sorted(there)
    assert sorted(example["id"].numpy().decode() for example in rest.read(7, 0, 1)) == sorted(there)


def test_the_parts_do_not_depend_on_the_datas_folder(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    parts = []
    for place in (folder, str(elsewhere)):
        _, held = hold_out(load_split("folder", place, True), 0.5)
        parts.append([path.removeprefix(place) for path in _ids(held)])
    assert parts[0] == parts[1]


@pytest.mark.parametrize("fraction, message", [(0, "held_out: expected a fraction"), (1e-9, "leaves one part empty")])
def test_a_fraction_that_leaves_nothing_is_refused(fraction, message, folder):
    with pytest.raises(ValueError, match=message):
        hold_out(load_split("folder", folder, True), fraction)


def test_the_parts_of_shards_do_not_depend_on_the_datas_folder(imagenet_shards, tmp_path):
    elsewhere = shutil.copytree(imagenet_shards, tmp_path / "another name")
    here, there = (hold_out(load_split("tfrecord", place, True), 0.4) for place in (imagenet_shards, str(elsewhere)))
    for one, other in zip(here, there, strict=True):
        assert [path.removeprefix(imagenet_shards) for path in _ids(one)] == [
            path.removeprefix(str(elsewhere)) for path in _ids(other)
        ]
    assert here[1].digest == there[1].digest


def test_other_parts_have_another_digest(folder, data_dir):
    digests = [hold_out(load_split("digits", data_dir, False), fraction)[1].digest for fraction in (0.2, 0.2, 0.3)]
    digests += [hold_out(load_split("folder", folder, True), fraction)[1].digest for fraction in (0.5, 0.5, 0.4)]
    assert digests[0] == digests[1] and digests[3] == digests[4] and len(set(digests)) == 4


def test_the_parts_of_0_2_0_stay_as_they_were(imagenet_shards, tmp_path):
    # Its rule goes by the name of the data's folder, too.
    place = shutil.copytree(imagenet_shards, tmp_path / "imagenet")
    rest, held = hold_out(load_split("tfrecord", place, True, reading=Reading(0)), 0.4)
    assert [path.removeprefix(str(place) + "/") for path in _ids(held)] == _HELD_BY_0_2_0
    assert len(_ids(rest)) == rest.num_examples == 12 - len(_HELD_BY_0_2_0)


def test_no_image_of_a_folder_is_read_to_hold_some_out(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "images")
    split = load_split("folder", place, True)
    for path in (place / "train").rglob("*.png"):
        path.unlink()
    rest, held = hold_out(split, 0.5)
    assert rest.num_examples + held.num_examples == 20
    again = hold_out(rest, 0.8)
    ids = [example.decode() for part in (held, *again) for example in part.ids.numpy()]
    assert sorted(ids) == sorted(example.decode() for example in split.ids.numpy())


def test_what_is_held_out_of_a_folder_and_the_rest_are_shuffled_whole(folder, monkeypatch):
    monkeypatch.setattr("mixnet_tf.data.pipeline._SHUFFLE_BUFFER", 1)
    rest, _ = hold_out(load_split("folder", folder, True), 0.3)
    examples = train_examples(rest, Recipe()).take(2 * rest.num_examples)
    ids = [example["id"] for example, _ in examples.as_numpy_iterator()]
    first, second = ids[: rest.num_examples], ids[rest.num_examples :]
    assert sorted(first) == sorted(second) == sorted(rest.ids.numpy()) and first != second


def test_what_is_held_out_is_one_shard(folder):
    _, held = hold_out(load_split("folder", folder, True), 0.5)
    with pytest.raises(ValueError, match="one shard"):
        held.read(None, 0, 2)
