"""Images held out of a split: every image in one part, wherever the data is and however it is read."""

import shutil

import pytest
import tensorflow as tf

from mixnet_tf.data import hold_out, load_split


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
    split = load_split("digits", data_dir, True)
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


def test_what_is_held_out_is_one_shard(folder):
    _, held = hold_out(load_split("folder", folder, True), 0.5)
    with pytest.raises(ValueError, match="one shard"):
        held.read(None, 0, 2)
