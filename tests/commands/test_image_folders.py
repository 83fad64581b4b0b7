"""eval.py on folders of images: on the screen and as a CSV file."""

import csv

import numpy as np
import pytest
import tensorflow as tf
from scripts import run
from tiny import write_small_network

from mixnet_tf.models import build_model


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A model of three classes, and five images in folders, of which one is none."""
    root = tmp_path_factory.mktemp("images")
    write_small_network(root / "small.json")
    model = build_model(root / "small.json", classes=3, input_shape=(16, 16, 3), class_names=["ant", "bee", "fly"])
    model.save(root / "x.keras")
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/c/1.png"):
        path = root / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(rng.integers(0, 256, (20, 24, 3), "uint8")).numpy())
    (root / "pictures" / "b" / "0.jpg").write_text("text")
    (root / "pictures" / "read.me").write_text("text")
    return [f"--weights={root}/x.keras", f"--image={root}/pictures", "--eval_batch_size=2"]


@pytest.mark.soak
@pytest.mark.usefixtures("eagerly")
def test_a_folder_is_shown_or_written_and_continued(arguments, tmp_path, capfd):
    folder = arguments[1].removeprefix("--image=")
    images = [f"{folder}/{name}" for name in ("a/1.png", "a/2.png", "b/0.jpg", "b/1.png", "b/c/1.png")]
    code, out, err = run(capfd, "eval.py", *arguments)
    assert code == 1, err
    lines = out.splitlines()
    assert f"{folder}: left out files that are no images: 1." in lines
    shown = lines[lines.index(images[0]) :]
    assert [line for line in shown if line in images] == images
    assert shown[shown.index(images[2]) + 1].startswith(f"  image: {images[2]} is not a readable JPEG")
    assert shown[-1] == "1 of 5 images cannot be read."

    path = tmp_path / "out.csv"
    code, out, err = run(capfd, "eval.py", *arguments, f"--output_csv={path}")
    assert code == 0, err
    assert f"Wrote {path}: 5 rows, 1 of them with an error." in out
    assert "Classification: 5/5 images" in out and "images/s" in out and "ETA" in out
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == images
    for row in rows:
        at = shown.index(row["path"])
        if row["error"]:
            assert shown[at + 1] == f"  {row['error']}"
            continue
        found = [(float(row[f"probability_{i}"]), row[f"class_{i}"]) for i in (1, 2, 3)]
        assert [f"  {probability:7.2%}  {name}" for probability, name in found] == shown[at + 1 : at + 4]
        assert row["class_4"] == row["probability_5"] == ""

    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(images[3].encode()) + 20])
    code, out, err = run(capfd, "eval.py", *arguments, f"--output_csv={path}")
    assert code == 0 and "2 rows, 0 of them with an error. 3 were there already." in out, err
    assert path.read_bytes() == whole
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    code, _, err = run(capfd, "eval.py", *arguments, f"--output_csv={path}", f"--labels={tmp_path}/labels.txt")
    assert code == 2 and "has rows with 'ant', 'bee', 'fly', which the model's classes are not" in err
