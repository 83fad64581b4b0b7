"""Pictures of what a detector finds."""

import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.evaluation import draw_boxes, draw_found

pytest.importorskip("matplotlib")


def test_names_are_drawn_as_they_stand(tmp_path):
    tf.io.write_file(str(tmp_path / "a.png"), tf.io.encode_png(np.zeros((20, 30, 3), np.uint8)))
    draw_boxes(str(tmp_path / "a.png"), [((0.1, 0.1, 0.9, 0.9), "$_$ 90%")], tmp_path / "drawn.png")
    assert tf.io.decode_png(tf.io.read_file(str(tmp_path / "drawn.png"))).shape[0] > 20
    boxes, labels = np.array([[0.1, 0.1, 0.9, 0.9]]), np.array([0])
    found = {"boxes": boxes, "scores": np.array([0.9]), "classes": labels}
    figure = draw_found(np.zeros((20, 30, 3)), {"boxes": boxes, "labels": labels}, found, ["$_$"])
    [word] = figure.axes[0].texts
    assert word.get_text() == "$_$ 90%"
    figure.canvas.draw()
