"""The images of an export are read as they are needed, never all at once."""

import types
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf.data import load_split, preprocess_for_eval
from mixnet_tf.export import ExportOptions, ExportSettings, export_model, export_opened, images, runtime
from mixnet_tf.saved_models import Opened

SIZE = 32  # pixels
MANY = 70  # images
SOAK = pytest.mark.soak


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder root/validation/class/*.png of two classes, different images."""
    root = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for place in range(MANY):
        path = root / "validation" / ("ab"[place % 2]) / f"{place:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(rng.integers(0, 256, (30, 30, 3), np.uint8)).numpy())
    return root


@pytest.fixture
def alive(monkeypatch):
    """How many of the prepared images of a folder were alive at once, at most: a list of one number."""

    class Counted(np.ndarray):
        pass

    now, most = [0], [0]

    def prepare(*arguments):
        image = preprocess_for_eval(*arguments).numpy().view(Counted)
        now[0] += 1
        most[0] = max(most[0], now[0])
        weakref.finalize(image, lambda: now.__setitem__(0, now[0] - 1))
        return types.SimpleNamespace(numpy=lambda: image)

    monkeypatch.setattr(images, "preprocess_for_eval", prepare)
    return most


def test_an_export_holds_one_batch_of_images_at_a_time(untrained, folder, tmp_path, alive):
    settings = ExportSettings(str(tmp_path), images=str(folder / "validation" / "a"))
    opened = Opened(untrained, "a file", None)
    options = ExportOptions(formats=("fp32", "saved_model"), latency_runs=0)
    result = export_opened(opened, settings, options)
    assert result["num_images"] == MANY // 2 and all(row["written"] for row in result["files"])
    assert 0 < alive[0] <= 33 < MANY // 2


@pytest.mark.soak
def test_a_stream_gives_the_images_of_a_dataset_in_its_order_each_time(folder):
    found = images.split_images(load_split("folder", folder, False), SIZE, True)
    examples = list(load_split("folder", folder, False).read())
    expected = np.stack([preprocess_for_eval(example["image"], SIZE, True) for example in examples])
    assert found.labels.tolist() == [example["label"] for example in examples]
    assert found.images.shape == expected.shape and len(found.images) == MANY
    for _ in range(2):
        np.testing.assert_array_equal(np.stack(list(found.images)), expected)
    np.testing.assert_array_equal(found.images.in_memory(), expected)


@pytest.mark.parametrize("source", ["folder", "dataset"])
def test_the_halves_of_a_stream_are_those_of_its_images(folder, source):
    if source == "folder":
        found = images.folder_images(str(folder / "validation" / "a"), SIZE, True, 9)
    else:
        found = images.split_images(load_split("folder", folder, False), SIZE, True, 9)
    whole = found.images.in_memory()
    verifying, calibrating = found.halves(3)
    np.testing.assert_array_equal(calibrating.images.in_memory(), whole[[1, 3, 5]])
    np.testing.assert_array_equal(verifying.images.in_memory(), whole[[0, 2, 4, 6, 7, 8]])
    assert len(verifying.images) == 6 and calibrating.source.startswith("3 of 9 images")


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_batches_are_the_images_in_their_order(size):
    whole = tiny.images(5, 4, 4, 3)
    batches = list(images.in_batches(whole, size))
    assert {len(batch) for batch in batches[:-1]} <= {size} and 0 < len(batches[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(batches), whole)


@pytest.mark.parametrize(
    ("dtype", "formats"),
    [
        ("uint8", ("fp32", "saved_model", "int8", "int8_full")),
        *((dtype, ("fp32", "saved_model")) for dtype in ("int64", "float64")),
        *(
            pytest.param(dtype, ("fp32", "saved_model", "int8", "int8_full"), marks=SOAK)
            for dtype in ("int64", "float64")
        ),
    ],
)
def test_images_of_any_number_type_are_taken(untrained, tmp_path, dtype, formats, one_calibration):
    whole = np.floor(tiny.images(9, SIZE, SIZE, 3)).astype(dtype)
    options = ExportOptions(formats=formats, latency_runs=0)
    rows = export_model(untrained, tmp_path, whole, calibration_images=whole, options=options)["files"]
    assert [row["failures"] for row in rows[:2]] == [[], []]
    content = (tmp_path / rows[0]["file"]).read_bytes()
    expected = keras.ops.convert_to_numpy(untrained(whole.astype("float32")))
    np.testing.assert_allclose(runtime.predict(content, whole), expected, atol=1e-5)
