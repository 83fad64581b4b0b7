"""A damaged image stops training and evaluation, and is named."""

import json
import shutil

import keras
import pytest
import tensorflow as tf

from mixnet_tf.data import corruption
from mixnet_tf.data.corruption import find_corrupt, naming_corrupt_images
from mixnet_tf.data.pipeline import eval_batches, train_batches
from mixnet_tf.data.rules import Reading
from mixnet_tf.data.split import Split
from mixnet_tf.data.splits import load_split
from mixnet_tf.evaluation import build_evaluator
from mixnet_tf.recipe import Recipe
from mixnet_tf.training import RunOptions, train


def _break_record(source, path, place, damage):
    """Copies a TFRecord file, the image of one record damaged; the record's checksum is right."""
    records = [record.numpy() for record in tf.data.TFRecordDataset(source)]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i, record in enumerate(records):
            example = tf.train.Example.FromString(record)
            image = example.features.feature["image/encoded"].bytes_list
            if i == place:
                image.value[0] = damage(image.value[0])
            writer.write(example.SerializeToString())


def _truncated(image):
    return image[: len(image) // 2]


_DAMAGES = {
    "truncated": _truncated,
    "text": lambda _: b"no image",
    "empty": lambda _: b"",
    "header": lambda image: image[:2] + bytes(300) + image[302:],
}


@pytest.fixture(autouse=True, scope="module")
def decoded_by_one_trace():
    """Each scan for a damaged image decodes by the same trace, where it would make one of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corruption, "decode_image", tf.function(corruption.decode_image, autograph=False))
        yield


@pytest.fixture(scope="module")
def model():
    """A classifier of 1000 classes."""
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(1000)(keras.layers.Flatten()(inputs)))


@pytest.mark.soak
@pytest.mark.parametrize("trained_with", [("truncated",), tuple(_DAMAGES)], ids=["one", "all"])
def test_training_and_evaluation_stop_at_a_damaged_image_and_name_file_and_place(
    trained_with, imagenet_shards, model, two_replicas, tmp_path
):
    shutil.copytree(imagenet_shards, tmp_path, dirs_exist_ok=True)
    train_split, eval_split = (load_split("tfrecord", tmp_path, is_train) for is_train in (True, False))
    recipe = Recipe(image_size=8, crop=False)
    batches = train_batches(train_split, recipe, 12)
    shared = two_replicas.distribute_datasets_from_function(lambda _: train_batches(train_split, recipe, 6))
    readers = (
        (eval_split, "validation-00000-of-00001__4", build_evaluator(model, eval_split, crop=False, batch_size=5)),
        (train_split, "train-00001-of-00002__2", lambda: next(iter(batches))),
        (train_split, "train-00001-of-00002__2", lambda: list(zip(shared, range(2), strict=False))),
    )
    for kind, damage in _DAMAGES.items():
        for name, place in (("train-00001-of-00002", 2), ("validation-00000-of-00001", 4)):
            _break_record(f"{imagenet_shards}/{name}", tmp_path / name, place, damage)
        for split, place, read in readers if kind in trained_with else readers[:1]:
            with pytest.raises(ValueError, match=f"The image {tmp_path}/{place} of split .* cannot be decoded"):
                with naming_corrupt_images(split):
                    pytest.fail(f"{kind}: {read()}")


@pytest.fixture(params=["cut", "flipped"])
def damaged_file(request, imagenet_shards, tmp_path):
    """Shards of which the second train file breaks off in its record 4, or has a wrong byte there."""
    shutil.copytree(imagenet_shards, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "train-00001-of-00002"
    content = path.read_bytes()
    # A record is as long as its content and 16 bytes of length and checksums.
    lengths = [len(record.numpy()) + 16 for record in tf.data.TFRecordDataset(str(path))]
    place = sum(lengths[:4]) + lengths[4] // 2
    rest = b"" if request.param == "cut" else bytes([content[place] ^ 1]) + content[place + 1 :]
    path.write_bytes(content[:place] + rest)
    return path


def test_counting_names_a_file_cut_short_or_damaged_before_any_training(damaged_file):
    with pytest.raises(ValueError, match=f"{damaged_file}: record 4, counted from 0, cannot be read"):
        load_split("tfrecord", damaged_file.parent, True)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network file of one block."""
    path = tmp_path_factory.mktemp("network") / "dot.json"
    params = {"stem_size": 8, "feature_size": 8}
    path.write_text(json.dumps({"blocks": ["r1_k3_a1_p1_s22_e1_i8_o8"], "params": params}))
    return str(path)


@pytest.mark.parametrize("damaged_file", ["cut", pytest.param("flipped", marks=pytest.mark.soak)], indirect=True)
def test_a_file_cut_short_or_damaged_stops_training_and_is_named(damaged_file, network, tmp_path):
    recipe = Recipe(train_batch_size=4, image_size=8, train_epochs=2.0, crop=False)
    options = RunOptions(str(tmp_path / "run"), str(damaged_file.parent), num_train_images=12, num_eval_images=5)
    with pytest.raises(ValueError, match=f"{damaged_file}: record 4, counted from 0, cannot be read"):
        train(network, "tfrecord", recipe, options)


def test_a_split_without_damage_has_nothing_to_name(imagenet_shards, data_dir, image_folder):
    for dataset, folder in (("tfrecord", imagenet_shards), ("digits", data_dir), ("folder", image_folder)):
        assert find_corrupt(load_split(dataset, folder, False)) is None


@tf.function(jit_compile=True, input_signature=[tf.TensorSpec([None])])
def _halves(x):
    return tf.reshape(x, (2, -1))


def _fail_as_a_collective():
    raise tf.errors.InvalidArgumentError(None, None, "Collective ops is aborted by: Shape mismatch in the gradient")


@pytest.mark.parametrize(
    "failure",
    [
        lambda: tf.reshape(tf.zeros(3), (2, 2)),
        lambda: _halves(tf.zeros(3)),
        lambda: list(tf.data.Dataset.from_tensor_slices([2, 3]).map(tf.zeros).batch(2)),
        _fail_as_a_collective,
    ],
    ids=["shape", "xla", "pipeline", "collective"],
)
def test_an_error_of_another_cause_stays_as_it_is_and_no_image_is_read(failure):
    def read(*_):
        pytest.fail("the images were scanned")

    with pytest.raises(tf.errors.InvalidArgumentError):
        with naming_corrupt_images(Split("digits", "test", 1, None, 10, read)):
            failure()


def test_a_decoding_failure_whose_image_the_scan_can_decode_stays_as_it_is(imagenet_shards, photographs):
    content = tf.io.read_file(photographs["china.jpg"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="crop window"):
        with naming_corrupt_images(load_split("tfrecord", imagenet_shards, True)):
            tf.function(tf.io.decode_and_crop_jpeg)(content, (0, 0, 9999, 9999))


def test_a_damaged_file_of_a_folder_is_named(image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "validation" / "flower" / "0.jpg"
    damaged.write_bytes(_truncated(damaged.read_bytes()))
    assert find_corrupt(load_split("folder", tmp_path, False)) == str(damaged)
    assert find_corrupt(load_split("folder", tmp_path, True)) is None


def test_a_damaged_example_of_a_tfds_dataset_is_named(data_dir):
    split = load_split("digits", data_dir, False)
    examples = list(split.read().take(10).as_numpy_iterator())
    images = [example["image"] if i != 7 else b"no image" for i, example in enumerate(examples)]
    damaged = {"image": images, **{key: [e[key] for e in examples] for key in ("label", "id")}}

    def read(shuffle_seed=None, shard=0, num_shards=1):
        return tf.data.Dataset.from_tensor_slices(damaged)

    found = find_corrupt(Split("digits", "test", split.num_examples, None, 10, read))
    assert found == examples[7]["id"].decode() and found.startswith("digits-test.tfrecord") and found.endswith("__7")


@pytest.mark.parametrize("strategy", ["one_device", pytest.param("mirrored", marks=pytest.mark.soak)])
def test_training_stops_and_names_the_image(strategy, image_folder, network, tmp_path):
    shutil.copytree(image_folder, tmp_path / "data")
    damaged = tmp_path / "data" / "train" / "china" / "1.jpg"
    damaged.write_bytes(_truncated(damaged.read_bytes()))
    recipe = Recipe(train_batch_size=2, image_size=8, train_epochs=1.0, crop=False)
    options = RunOptions(str(tmp_path / "run"), str(tmp_path / "data"), strategy=strategy, eval_batch_size=2)
    with pytest.raises(ValueError) as raised:
        train(network, "folder", recipe, options)
    assert str(damaged) in str(raised.value)
    assert isinstance(raised.value.__cause__, tf.errors.InvalidArgumentError)
    assert not (tmp_path / "run" / "final.keras").exists()


def test_a_file_that_is_gone_or_a_folder_is_named(image_folder, tmp_path):
    root = shutil.copytree(image_folder, tmp_path / "images: 1; 2")
    split = load_split("folder", root, True, reading=Reading(0))
    path = root / "train" / "china" / "0.jpg"
    path.unlink()
    for reason in ("No such file or directory", "Is a directory"):
        with pytest.raises(ValueError, match=f"The image .*2/train/china/0.jpg of split 'train' .* be read: {reason}"):
            with naming_corrupt_images(split):
                list(eval_batches(split, 8, 1))
        path.mkdir(exist_ok=True)


def test_a_file_that_may_not_be_read_is_named(image_folder):
    split = load_split("folder", image_folder, True)
    message = "{{function_node x}} /a b/c.png; Permission denied\n\t [[y]]"
    with pytest.raises(ValueError, match="The image /a b/c.png of split 'train' .* cannot be read: Permission denied"):
        with naming_corrupt_images(split):
            raise tf.errors.PermissionDeniedError(None, None, message)
