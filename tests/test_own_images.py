"""From a folder of images to a phone's file, as a new user goes: two commands, and other programs read the file."""

import json
import pathlib
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from scripts import process

from mixnet_tf.data import load_split, preprocess_for_eval
from mixnet_tf.export import runtime
from mixnet_tf.runs import RunConfig

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NETWORK = {
    "blocks": [
        "r1_k3_a1_p1_s11_e1_i16_o16",
        "r1_k3.5_a1_p1_s22_e3_i16_o24_se0.25_sw",
        "r1_k3.5_a1_p1_s22_e3_i24_o32_se0.25_sw",
    ],
    "params": {"stem_size": 16, "feature_size": 128},
}
_FEW = "seven"  # the class of 20 images
_MEDIAPIPE = """
import json, sys
sys.modules["tensorflow"] = None  # which MediaPipe needs for its documentation alone
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from PIL import Image
paths = json.load(open(sys.argv[1]))
for file in sys.argv[2:]:
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=file), max_results=1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        found = []
        for path in paths:
            pixels = np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB")))
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
            found.append(classifier.classify(picture).classifications[0].categories[0].category_name)
        print("found", json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A flat folder of digits as PNG files, with a class of 20 images and a few files that are no images."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    folder, counts = tmp_path_factory.mktemp("photos") / "digits", dict.fromkeys(_NAMES, 0)
    for place, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        name = _NAMES[label]
        if name == _FEW and counts[name] == 20:
            continue
        counts[name] += 1
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = np.uint8(np.round(image[..., np.newaxis] * 255 / 16))
        (folder / name / f"{place}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    for name in ("notes.txt", ".DS_Store", "two/list.csv", "two/Thumbs.db"):
        (folder / name).write_text("no image")
    return folder


@pytest.mark.soak
def test_two_commands_lead_from_a_folder_to_files_that_litert_and_mediapipe_read_right(folder, tmp_path):
    where = (f"--data_dir={folder}", f"--model_dir={tmp_path}/run")
    (tmp_path / "network.json").write_text(json.dumps(_NETWORK))
    network = f"--model_name={tmp_path}/network.json"
    done = process("train.py", "--dataset=folder", *where, network, "--train_epochs=8", timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    for words in (
        "1,638 images in 10 classes; in a class, smallest 20 ('seven')",
        "0.2 of the images, by a hash of their path, are the split 'validation'",
        "left out what is no image: 1 .csv",
        "Recipe own_images: batches of 32 images",
        "chosen on these images",
        f"Next: python export_tflite.py {' '.join(reversed(where))}",
    ):
        assert words in done.stdout, done.stdout
    done = process(
        "export_tflite.py", *where, f"--output_dir={tmp_path}/out", "--formats=fp32,int8", "--latency_runs=0"
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    split = load_split("folder", folder, False, reading=RunConfig.read(tmp_path / "run").reading())
    paths = [path.decode() for path in split.ids.numpy()]
    truth = [pathlib.Path(path).parent.name for path in paths]
    assert 250 < len(paths) == report["num_images"] < 400 and _FEW in truth
    assert (tmp_path / "out" / "labels.txt").read_text().split() == sorted(_NAMES)
    images = np.stack([preprocess_for_eval(tf.io.read_file(path), 32, False) for path in paths])
    files = [str(tmp_path / "out" / row["file"]) for row in report["files"]]
    expected = [row["top_1_accuracy"] for row in report["files"]]
    assert min(expected) > 0.5
    for file, accuracy in zip(files, expected, strict=True):
        labels = zipfile.ZipFile(file).read("labels.txt").decode().split()
        found = [labels[number] for number in runtime.predict(pathlib.Path(file).read_bytes(), images).argmax(-1)]
        assert np.mean(np.array(found) == truth) == pytest.approx(accuracy)

    pytest.importorskip("mediapipe")
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    command = [sys.executable, "-c", _MEDIAPIPE, str(tmp_path / "paths.json"), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in re.findall(r"^found (.*)$", done.stdout, re.MULTILINE)]
    assert len(found) == 2, done.stderr[-2000:]
    for answers, accuracy in zip(found, expected, strict=True):  # MediaPipe resizes in its own way
        assert abs(np.mean(np.array(answers) == truth) - accuracy) < 0.03
