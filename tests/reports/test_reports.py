"""Reports: the evaluator's numbers, statistics against SciPy's and scikit-learn's, a page that needs nothing else."""

import base64
import html.parser
import json
import tracemalloc

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from scripts import run
from tiny import DETECTOR_NETWORK

import mixnet_tf
from mixnet_tf.data import Split, load_objects, load_split, preprocess_for_eval
from mixnet_tf.evaluation import build_evaluator
from mixnet_tf.figures import png
from mixnet_tf.reports import write_detection_report, write_report
from mixnet_tf.reports.charts import draw_class_accuracy, draw_confusions, draw_precision_recall
from mixnet_tf.reports.classification import _confusions
from mixnet_tf.reports.detection import count_mistakes
from mixnet_tf.reports.measures import (
    ClassAccuracy,
    accuracy_by_class,
    calibration,
    confusion_matrix,
    most_confused,
    wilson_interval,
)
from mixnet_tf.reports.predictions import Predictions, predict
from mixnet_tf.runs import TRAINING_IMAGES

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
_PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def classifier():
    """Of digits, right about some of them."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers], name="linear")


@pytest.fixture(scope="module")
def split(data_dir):
    return load_split("digits", data_dir, False)


@pytest.fixture(scope="module")
def predictions(classifier, split):
    return predict(classifier, split, False, 50)


class _Page(html.parser.HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, path):
        super().__init__()
        self.images, self.sources, self.text = [], [], ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.sources += [attributes[name] for name in ("src", "href", "srcset", "action") if name in attributes]
        if tag == "img":
            self.images.append(attributes)
        assert tag not in ("script", "link", "iframe")

    def handle_data(self, data):
        self.text += data


def _assert_needs_nothing_else(page):
    for image in page.images:
        assert image["alt"]
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64" and base64.b64decode(data).startswith(_PNG)
    assert len(page.sources) == len(page.images)


def test_predictions_are_the_evaluators_and_the_surest_mistakes_come_first(classifier, split, predictions):
    expected, measured = build_evaluator(classifier, split, False, by_class=True)(), predictions.metrics(by_class=True)
    assert measured.pop("cross_entropy") == pytest.approx(expected.pop("cross_entropy"))  # sums round otherwise
    assert measured == expected
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    order = wrong[np.argsort(-predictions.probability[wrong], kind="stable")][:25]
    assert len(order) == len(predictions.mistakes) == 25
    examples = list(split.read(None, 0, 1).as_numpy_iterator())
    for place, mistake in zip(order, predictions.mistakes, strict=True):
        assert (mistake.label, mistake.predicted) == (predictions.labels[place], predictions.predicted[place])
        assert mistake.id == examples[place]["id"].decode()
        seen = np.rint(preprocess_for_eval(tf.constant(examples[place]["image"]), 8, False))
        np.testing.assert_array_equal(mistake.image, seen)


def test_intervals_are_scipys():
    for hits, count in ((0, 12), (7, 12), (12, 12), (40_000, 50_000)):
        expected = scipy.stats.binomtest(hits, count).proportion_ci(0.95, "wilson")
        assert wilson_interval(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-5)  # z of 1.96


def test_accuracy_by_class_and_confusions_are_scikit_learns(predictions):
    metrics = pytest.importorskip("sklearn.metrics")
    matrix = confusion_matrix(predictions, 10)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(predictions.labels, predictions.predicted))
    rows = accuracy_by_class(predictions)
    assert [row.accuracy for row in rows] == sorted(row.accuracy for row in rows)
    recall = metrics.recall_score(predictions.labels, predictions.predicted, average=None)
    for row in rows:
        assert row.accuracy == pytest.approx(recall[row.label]) and row.images == matrix[row.label].sum()
    pairs = most_confused(predictions, 4)
    assert [count for *_, count in pairs] == sorted((matrix - np.diag(np.diag(matrix))).ravel())[:-5:-1]
    assert all(matrix[label, given] == count and label != given for label, given, count in pairs)
    right = predictions._replace(predicted=predictions.labels)
    assert most_confused(right, 5) == []


def test_the_calibration_error_is_the_mean_distance_over_bins():
    labels = np.array([0, 0, 0, 0, 1], np.int32)
    predicted = np.array([0, 0, 1, 0, 1], np.int32)
    sure = np.array([0.95, 0.95, 0.95, 0.59, 1.0], np.float32)
    found = calibration(Predictions(labels, predicted, sure, labels == predicted, -np.log(sure), []))
    assert found.images.sum() == 5 and found.images[[8, 14]].tolist() == [1, 4]
    assert found.accuracy[14] == 0.75 and found.confidence[14] == pytest.approx(0.9625)
    assert found.error == pytest.approx((4 * abs(0.75 - 0.9625) + abs(1 - 0.59)) / 5, rel=1e-6)


def test_a_page_is_one_file_with_figures_beside_it(classifier, split, predictions, tmp_path):
    names = [f"<{number}> & co" for number in range(10)]
    metrics, path = write_report(classifier, split, tmp_path, names, "random & untrained", False, by_class=True)
    assert metrics == predictions.metrics(by_class=True) and path == str(tmp_path / "report.html")
    page = _Page(tmp_path / "report.html")
    _assert_needs_nothing_else(page)
    assert len(page.images) == 3 + 25
    figures = {"accuracy_by_class.png", "confusions.png", "calibration.png"}
    assert {file.name for file in tmp_path.iterdir()} == {"report.html", *figures}
    low, high = wilson_interval(round(metrics["top_1_accuracy"] * 360), 360)
    for words in (
        f"{metrics['top_1_accuracy']:.2%}",
        f"{low:.2%} to {high:.2%}",
        f"{metrics['mean_class_accuracy']:.2%}",
        "of the top-1 of 10 classes",
        "random & untrained",
        "8 x 8 pixels, RGB; the whole image, bilinear",
        "<3> & co",
        f"{calibration(predictions).error:.2%}",
    ):
        assert words in page.text


def test_a_thousand_classes_are_pairs_instead_of_a_matrix(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(1000, "softmax")])
    image = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8))

    def read(shuffle_seed=None, shard=0, num_shards=1):
        return tf.data.Dataset.range(200).map(
            lambda number: {"image": image, "label": 5 * number, "id": tf.strings.as_string(number)}
        )

    write_report(model, Split("many", "test", 200, None, 1000, read), tmp_path, crop=False)
    page = _Page(tmp_path / "report.html")
    assert not (tmp_path / "confusions.png").exists() and "the 20 worst classes" in page.text
    assert ", taken for 0" in page.text and "Confusions" in page.text


def _boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_mistakes_of_a_detector_are_missed_objects_and_wrong_boxes():
    there, beside = (0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)
    example = {"boxes": _boxes(there, beside, there), "labels": np.array([1, 2, -1])}

    def found(*rows):
        boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
        return {"boxes": _boxes(*boxes), "scores": np.array(scores), "classes": np.array(classes, int)}

    assert count_mistakes(example, found()) == (2, 0)
    assert count_mistakes(example, found((there, 0.9, 1), (beside, 0.4, 2), (there, 0.2, 5))) == (0, 0)
    assert count_mistakes(example, found((there, 0.9, 1), (there, 0.8, 1), (beside, 0.5, 1))) == (1, 2)
    assert count_mistakes(example, found(((0, 0, 0.5, 0.24), 0.9, 1))) == (2, 1)  # an overlap of 0.48
    assert count_mistakes({"boxes": _boxes(), "labels": np.array([], int)}, found((there, 0.5, 0))) == (0, 1)


def test_a_detectors_page_has_curves_and_its_worst_images_and_tells_classes_of_one_name_apart(
    small_scenes, tmp_path, monkeypatch
):
    pytest.importorskip("faster_coco_eval")
    split = load_objects("digit_scenes", small_scenes, False)
    path = tmp_path / "network.json"
    path.write_text(json.dumps(DETECTOR_NETWORK))
    detector, words = mixnet_tf.SSDLite(str(path), 10, (64, 64, 3)), _drawn(monkeypatch)
    names = ["$_$", *["odd", "even"] * 4, "_"]
    metrics, _ = write_detection_report(detector, split, tmp_path / "report", names, source="random weights")
    assert metrics["num_images"] == 5
    page = _Page(tmp_path / "report" / "report.html")
    _assert_needs_nothing_else(page)
    assert len(page.images) == 1 + 5 and "missed" in page.text and "no objects" in page.text
    assert (tmp_path / "report" / "precision_recall.png").read_bytes().startswith(_PNG)
    curves = [word for word in words[0] if word == "$_$" or word.startswith(("odd (", "even ("))]
    assert len(curves) > 3 and all(name in page.text for name in curves)


def test_the_command_writes_the_report_and_says_where_and_that_a_split_called_train_was_trained_with(
    classifier, data_dir, tmp_path, capfd
):
    classifier.save(tmp_path / "linear.keras")
    flags = (f"--weights={tmp_path}/linear.keras", f"--data_dir={data_dir}", "--nocrop", "--split=train")
    where = f"--report_dir={tmp_path}/report"
    code, out, err = run(capfd, "eval.py", *flags, where, f"--output_json={tmp_path}/a.json")
    assert code == 0 and f"Wrote {tmp_path}/report/report.html." in out and f"Note: {TRAINING_IMAGES}." in out, err
    code, out, _ = run(capfd, "eval.py", *flags, f"--output_json={tmp_path}/b.json")
    measured = json.loads((tmp_path / "a.json").read_text())
    expected = json.loads((tmp_path / "b.json").read_text())
    assert measured.pop("cross_entropy") == pytest.approx(expected.pop("cross_entropy"))  # sums round otherwise
    assert measured == expected and TRAINING_IMAGES in measured["notes"]
    page = _Page(tmp_path / "report" / "report.html")
    assert f"{tmp_path}/linear.keras" in page.text and TRAINING_IMAGES in page.text
    code, _, err = run(capfd, "eval.py", *flags, where, "--image=a.png")
    assert code == 2 and "--report_dir is about a dataset; leave out --image" in err


_ODD = ("$_$", "_hidden", "a$b", "crane", "crane")


def _drawn(monkeypatch):
    """The words of each figure that is drawn from here on."""
    from matplotlib.text import Text

    words = []
    monkeypatch.setattr(
        "mixnet_tf.reports.charts.png",
        lambda figure: words.append([each.get_text() for each in figure.findobj(Text)]) or png(figure),
    )
    return words


def test_names_are_drawn_as_they_stand(monkeypatch):
    words, rows = _drawn(monkeypatch), [ClassAccuracy(label, 0.5, 10, 0.2, 0.8) for label in range(5)]
    draw_class_accuracy(rows, _ODD, 0.5)
    draw_confusions(np.eye(5, dtype=int), _ODD)
    draw_precision_recall([(name, np.ones(101)) for name in _ODD])
    assert len(words) == 3 and all(set(_ODD) <= set(drawn) for drawn in words)
    assert words[2].count("crane") == 2, "each class has a curve, and its name in the legend"


def test_confusions_of_ten_thousand_classes_take_little_memory():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 10_000, (2, 20_000)).astype(np.int32)
    predicted[:5], labels[:5] = 9_999, 3
    tracemalloc.start()
    section = _confusions(
        Predictions(labels, predicted, np.ones(20_000, np.float32), labels == 0, np.zeros(20_000), []), range(10_000)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert section.tables[0].rows[0][:2] == ("3, taken for 9999", "5")
    assert peak < 20e6
