"""Two logical CPUs in each test process, so that it can run two replicas; the order of the files; shared fixtures."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# numpy's threads spin: small products take 30 times as long with two.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pathlib
import shutil
import subprocess

import pytest
from absl import logging

_BUILD_GPU = pathlib.Path(__file__).parents[1] / "benchmarks" / "accelerators" / "build_gpu.sh"
# Files that share a session's fixtures or the released networks, and so have to be in one process where several run.
_TOGETHER = {
    **dict.fromkeys(("test_endpoints", "test_network_files", "test_official", "test_pretrained"), "test_model"),
    **dict.fromkeys(("test_hub", "test_verify_weights"), "test_model"),
    **dict.fromkeys(("test_ahead_of_time", "test_clients", "test_export_command"), "test_export"),
    **dict.fromkeys(("test_gpu", "test_int8"), "test_export"),
    **dict.fromkeys(("test_class_weights", "test_distribution", "test_evaluating", "test_watching"), "test_run"),
    "test_estimates": "test_searching",
}
# Tests of many minutes that share nothing with the others of their file: any process may take the next.
_ALONE = ("test_int8_of_a_network_trained_on_digits_is_within_0_6_points_of_float",)
# Files that train, export, read datasets, build full-size networks or start processes, the longest first: no process is
# left with a long one at the end.
_SLOW = (
    "test_readme",
    "test_kills",
    "test_workers",
    "test_export",
    "test_int8",
    "test_nested",
    "test_images",
    "test_detectors",
    "test_detectors_int8",
    "test_export_command",
    "test_clients",
    "test_ahead_of_time",
    "test_gpu",
    "test_run",
    "test_evaluating",
    "test_watching",
    "test_class_weights",
    "test_cli",
    "test_transfer",
    "test_folder_runs",
    "test_pretrained",
    "test_screen",
    "test_version_0_1_0",
    "test_version_0_2_0",
    "test_trainer",
    "test_tpu",
    "test_searching",
    "test_estimates",
    "test_supernet",
    "test_trials",
    "test_detection",
    "test_ssdlite",
    "test_bad_input",
    "test_full_disk",
    "test_supervisor",
    "test_makefile",
    "test_process",
    "test_cross_validate",
    "test_kernel_sizes",
    "test_verify_weights",
    "test_corruption",
    "test_timm",
    "test_mobilenets",
    "test_rewrite",
    "test_model",
    "test_runs",
    "test_network_files",
    "test_keras_way",
    "test_recalibration",
    "test_objects",
    "test_splits",
    "test_official",
    "test_pipeline",
    "test_reports",
    "test_average_precision",
    "test_classes_and_input",
    "test_image_folders",
    "test_classifying",
    "test_paths",
    "test_held_out",
    "test_folders",
    "test_hub",
    "test_endpoints",
)


def pytest_configure(config):
    """Sets up the two CPUs, but not in the process that only hands out tests: it needs no TensorFlow."""
    if config.getoption("numprocesses", None) is None or hasattr(config, "workerinput"):
        capture = config.pluginmanager.getplugin("capturemanager")
        capture.resume_global_capture()  # of what TensorFlow writes while it is imported
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
        capture.read_global_capture()
        capture.suspend_global_capture()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps the tests of a file, and of files that share fixtures, in one process where several run.

    Not by xdist_group: pytest-xdist 3.8 marks a test's group in its node id, which pytest 9.2 does not let it change.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path, _, test = nodeid.partition("::")
            if test.startswith(_ALONE):
                return nodeid
            stem = pathlib.PurePath(path).stem
            return _TOGETHER.get(stem, stem)

    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    """Puts the slow files at the start."""
    order = {name: place for place, name in enumerate(_SLOW)}
    for item in items:
        if item.path.stem in order:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_collection_finish():
    """Leaves what the imports have made out of later garbage collections; each conversion to TFLite makes one."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _determinism_ends():
    """A test that asks for bit-equal results leaves no later one of its process without random initial weights."""
    yield
    from tensorflow.python.framework import config  # determinism is switched off by no public function

    if config.is_op_determinism_enabled():
        config.disable_op_determinism()


@pytest.fixture
def logged(caplog):
    """A function that gives what the library has logged since it was asked last."""

    def text():
        lines = [record.getMessage() for record in caplog.records if record.name == "absl"]
        caplog.clear()
        return "\n".join(lines)

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    yield text
    logging.set_verbosity(verbosity)


@pytest.fixture(scope="session")
def photographs():
    """The two photographs that ship inside scikit-learn, by name: paths of JPEG files."""
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    folder = pathlib.Path(sklearn_datasets.__file__).parent / "images"
    return {name: str(folder / name) for name in ("china.jpg", "flower.jpg")}


@pytest.fixture(scope="session")
def two_replicas():
    """The one strategy of two replicas that a process has."""
    from mixnet_tf.training import make_strategy  # not at the top: it starts what the two CPUs are set for

    return make_strategy("mirrored")


@pytest.fixture(scope="module")
def tiny_network():
    """The network "tiny" among the released ones."""
    import tiny_run

    from mixnet_tf.networks.variants import VARIANTS

    tiny_run.register()
    yield
    del VARIANTS["tiny"]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where digits is prepared, once for all tests."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory, data_dir):
    """The folder of a run of the network "tiny" that nothing interrupted; who asks for it has `tiny_network`, too."""
    import tiny_run
    from shared_trainers import share
    from short_run import train_tiny

    tiny_run.register()  # a fixture of the session comes before the module's
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        share(patch)
        assert train_tiny(folder, data_dir) == 0
    return folder


@pytest.fixture
def shared_trainers(monkeypatch):
    """Runs of one network and recipe share a compiled trainer, which each gets in the state of a new one."""
    from shared_trainers import share

    share(monkeypatch)


@pytest.fixture
def eagerly():
    """Steps are not traced, which costs more than to run a few of them."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(params=["no end", pytest.param("with end", marks=pytest.mark.soak)])
def without_end(request, monkeypatch):
    """Runs end with their last step: nothing is evaluated, and no final model written. In the soak they are whole."""
    from mixnet_tf.training import run

    if request.param == "no end":
        monkeypatch.setattr(run, "finish", lambda *_: None)


@pytest.fixture(scope="session")
def imagenet_shards(tmp_path_factory, photographs):
    """A folder of ImageNet-named TFRecord shards: 2 x 6 train and 5 validation records, labels from 1."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("imagenet")
    for split, shards, per_shard in (("train", 2, 6), ("validation", 1, 5)):
        for shard in range(shards):
            with tf.io.TFRecordWriter(str(folder / f"{split}-{shard:05d}-of-{shards:05d}")) as writer:
                for place in range(per_shard):
                    name = "flower.jpg" if (shard + place) % 2 else "china.jpg"
                    label = 1000 if name == "flower.jpg" else 1
                    writer.write(_example(photographs[name], label))
    return str(folder)


def _example(path, label):
    import tensorflow as tf

    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[pathlib.Path(path).read_bytes()])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory, photographs):
    """A folder root/split/class/file of JPEGs, two classes: 4 to train, 2 to validate."""
    root = tmp_path_factory.mktemp("folder")
    for split, copies in (("train", 2), ("validation", 1)):
        for name, path in photographs.items():
            (root / split / name.removesuffix(".jpg")).mkdir(parents=True)
            for copy in range(copies):
                target = root / split / name.removesuffix(".jpg") / f"{copy}.jpg"
                target.write_bytes(pathlib.Path(path).read_bytes())
    return str(root)


@pytest.fixture
def weights_cache(tmp_path, monkeypatch):
    """Where a test's own Keras home keeps published weights: no test sees, or leaves, a person's files."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("MIXNET_TF_WEIGHTS_URL", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    return tmp_path / "keras" / "models" / "mixnet_tf"


@pytest.fixture
def mirrored(weights_cache, tmp_path, monkeypatch):
    """A folder that stands for the published weights, and a list of what was asked of it."""
    from weights_server import serving  # not at the top: it imports TensorFlow's users before the two CPUs are set

    folder = tmp_path / "mirrored"
    folder.mkdir()
    with serving(folder) as (url, asked):
        monkeypatch.setenv("MIXNET_TF_WEIGHTS_URL", url)
        yield folder, asked


@pytest.fixture(scope="session")
def released_archive(tmp_path_factory):
    """mixnet-s.tar.gz as published, with values of our own."""
    from weights_server import write_released_archive

    return write_released_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="session")
def digits(data_dir):
    """Digits' images as the export takes them, by whether they are those to train with."""
    pytest.importorskip("sklearn")
    from exported_digits import digits_images

    return digits_images(data_dir)


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory):
    """Where digit_scenes is prepared with 80 scenes to train, 5 to validate and 5 to test."""
    pytest.importorskip("sklearn")
    from mixnet_tf.data import load_objects
    from mixnet_tf.data.scenes import DigitScenes

    folder, generate = tmp_path_factory.mktemp("scenes"), DigitScenes._generate_examples
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            DigitScenes,
            "_generate_examples",
            lambda self, split, indices, number, seed: generate(self, split, indices, number // 100, seed),
        )
        load_objects("digit_scenes", folder, True)
    return str(folder)


@pytest.fixture(scope="session")
def trained(digits):
    """A classifier of digits; a test may not change it."""
    from exported_digits import train

    return train(digits)


@pytest.fixture(scope="session")
def exported(trained, digits, tmp_path_factory):
    """(folder, report) of that classifier in every format."""
    from exported_digits import export

    return export(trained, digits, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def gpu_folder(tmp_path_factory):
    """The folder of a GPU of software, as `make gpu-check` creates it."""
    if shutil.which("chromium") is None or shutil.which("gcc") is None:
        pytest.skip("needs Debian's chromium, for its SwiftShader, and gcc")
    pytest.importorskip("ai_edge_litert")
    folder = tmp_path_factory.mktemp("gpu") / "made"
    subprocess.run([_BUILD_GPU, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def untrained():
    """A classifier of random weights, of ten classes and one block; a test may not change it."""
    import tiny

    from mixnet_tf import build_model

    blocks, params = ["r1_k3.5_a1_p1_s22_e1_i8_o8"], {"stem_size": 8, "feature_size": 16}
    model = build_model(None, params, blocks_args=blocks, classes=10, input_shape=(32, 32, 3), name="mixnet-t")
    tiny.randomise(model)
    return model


@pytest.fixture
def one_calibration(monkeypatch):
    """Calibrates int8 once, without a tenth of the images, where a test does not ask how many are left out."""
    from mixnet_tf.export import calibrate

    monkeypatch.setattr(calibrate, "FRACTIONS", (0.9,))
    monkeypatch.setattr(calibrate, "_NEAR", 1.0)


@pytest.fixture(scope="session")
def detector():
    """A small detector of three classes; a test may not change it."""
    import exported_detector

    return exported_detector.build()


@pytest.fixture(scope="session")
def pictures():
    """Six images of the detector's size."""
    import exported_detector

    return exported_detector.pictures()
