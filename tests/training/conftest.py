"""What the runs of child processes need."""

import json

import pytest
from tiny import DETECTOR_NETWORK


@pytest.fixture(scope="module")
def prepared(data_dir):
    """The data folder, with digits prepared, so that no run is killed at that."""
    from mixnet_tf.data import load_split

    load_split("digits", data_dir, True)
    return data_dir


@pytest.fixture(scope="module")
def detection_flags(tmp_path_factory):
    """Of a run of 30 steps."""
    network = tmp_path_factory.mktemp("network") / "small.json"
    network.write_text(json.dumps(DETECTOR_NETWORK))
    return "--task=detection", f"--model_name={network}", "--image_size=64", "--train_batch_size=16"
