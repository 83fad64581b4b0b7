import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf import load_official_checkpoint
from mixnet_tf.weights.official import checkpoint_prefix

GOLDEN_S = tiny.GOLDEN / "tiny-s" / "model.ckpt"


@pytest.fixture(scope="module")
def built():
    return tiny.build_tiny(include_preprocessing=False)


@pytest.fixture
def model(built):
    tiny.randomise(built)
    return built


def copy_golden(folder, state=None):
    for file in GOLDEN_S.parent.glob("model.ckpt.*"):
        shutil.copy(file, folder)
    if state is not None:
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "{state}"\nall_model_checkpoint_paths: "{state}"\n')
    return str(folder / "model.ckpt")


@pytest.mark.parametrize("state", ["model.ckpt", "/tmp/where/it/was/written/model.ckpt", "gs://bucket/model.ckpt"])
def test_a_folder_means_what_its_checkpoint_file_names(tmp_path, state):
    expected = copy_golden(tmp_path, state)
    assert checkpoint_prefix(tmp_path) == expected
    assert checkpoint_prefix(f"{tmp_path}{os.sep}") == expected


@pytest.mark.parametrize("ending", ["", ".index"])
def test_a_prefix_and_its_index_file_mean_the_same(tmp_path, ending):
    prefix = copy_golden(tmp_path)
    assert checkpoint_prefix(prefix + ending) == prefix


def test_a_folder_without_a_checkpoint_file_says_what_to_give(tmp_path):
    copy_golden(tmp_path)
    with pytest.raises(FileNotFoundError, match="no readable `checkpoint` file; give the checkpoint's prefix"):
        checkpoint_prefix(tmp_path)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"No checkpoint at {tmp_path / 'none'}")):
        checkpoint_prefix(tmp_path / "none")
    copy_golden(tmp_path, "gone.ckpt")
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="gone.ckpt.index does not exist"):
        checkpoint_prefix(tmp_path)


@pytest.mark.parametrize("damage", ["index", "data", "no data"])
def test_a_damaged_checkpoint_is_refused_by_its_name(model, tmp_path, damage):
    prefix = copy_golden(tmp_path)
    index, data = f"{prefix}.index", f"{prefix}.data-00000-of-00001"
    if damage == "index":
        with open(index, "wb") as file:
            file.write(b"not a checkpoint" * 100)
    elif damage == "data":
        os.truncate(data, 1000)
    else:
        os.remove(data)
    with tiny.refusal(model, ValueError, re.escape(f"{prefix} cannot be read as a TensorFlow checkpoint")):
        load_official_checkpoint(model, prefix)


def test_a_checkpoint_is_read_from_any_file_system_of_tensorflow(model):
    tf.io.gfile.makedirs("ram://official")
    tiny.write_checkpoint("ram://official/model.ckpt", tiny.read_checkpoint(GOLDEN_S))
    with tf.io.gfile.GFile("ram://official/checkpoint", "w") as file:
        file.write('model_checkpoint_path: "model.ckpt"\n')
    load_official_checkpoint(model, GOLDEN_S)
    expected = tiny.values(model)
    tiny.randomise(model)
    load_official_checkpoint(model, "ram://official")
    for ours, theirs in zip(tiny.values(model), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
