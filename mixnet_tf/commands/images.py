"""Shows the classes of image files or the objects in them, or writes the classes to a CSV file."""

from absl import flags

from mixnet_tf.class_names import shown_names
from mixnet_tf.commands.screen import Screen
from mixnet_tf.commands.settings_flags import flag_values
from mixnet_tf.data import label_names
from mixnet_tf.detection import classes_of
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import (
    Classified,
    classify,
    classify_files,
    detect_in_file,
    draw_boxes,
    find_images,
    write_predictions,
)
from mixnet_tf.networks import NOT_CHECKED, Resizing, class_names, input_of
from mixnet_tf.saved_models import Opened

THRESHOLDS = ("score_threshold", "iou_threshold")  # flags, of the boxes that are listed and drawn


def classify_images(opened: Opened, resizing: Resizing, screen: Screen) -> int:
    """Classifies the images of --image, and returns the exit code: 1 if some of several cannot be read.

    With --output_csv, these have a row that says so, and the code is 0.
    """
    values, model = flags.FLAGS, opened.model
    names = _shown_names(model, model.output_shape[-1], screen)
    paths = find_images(values.image)

    def classify_all(paths):
        return classify_files(model, paths, resizing, rules=opened.rules, batch_size=values.eval_batch_size)

    if values.output_csv is not None:
        rows = write_predictions(values.output_csv, paths, names, classify_all, screen.phase)
        before = f" {rows.before:,} were there already." if rows.before else ""
        screen.say(f"Wrote {values.output_csv}: {rows.written:,} rows, {rows.errors:,} of them with an error.{before}")
        return 0
    errors = []
    if _is_one(paths):
        classified = iter([Classified(paths[0], classify(model, paths[0], resizing, rules=opened.rules))])
    else:
        classified = classify_all(paths)
    for each in classified:
        screen.say(each.path)
        for number, probability in each.found:
            screen.say(f"  {probability:7.2%}  {names[number]}")
        if each.error is not None:
            screen.say(f"  {each.error}")
            errors.append(each.path)
    return _code(errors, paths, screen)


def detect_in_images(opened: Opened, screen: Screen) -> int:
    """Shows the objects in the images of --image, and draws them with --draw; returns the exit code as above."""
    values, model = flags.FLAGS, opened.model
    names = _shown_names(model, classes_of(model), screen)
    if values.draw is not None and len(values.image) > 1:
        raise InputError("--draw takes the boxes of one --image.")
    paths = values.image if values.draw is not None else find_images(values.image)
    errors = []
    for path in paths:
        screen.say(path)
        try:
            found = detect_in_file(model, path, rules=opened.rules, **flag_values(THRESHOLDS))
        except InputError as error:
            if _is_one(paths):
                raise
            screen.say(f"  {error}")
            errors.append(path)
            continue
        for box, score, label in found:
            shown = ", ".join(f"{value:.3f}" for value in box)
            screen.say(f"  {score:7.2%}  {names[label]}  {shown}")
        if values.draw is not None:
            described = [(box, f"{names[label]} {score:.0%}") for box, score, label in found]
            draw_boxes(path, described, values.draw, opened.rules)
            screen.say(f"Wrote {values.draw}.")
    return _code(errors, paths, screen)


def _shown_names(model, classes, screen):
    """The class names to show for an image; first shows notes on what was not checked."""
    if input_of(model) is None:
        screen.say(f"Note: {NOT_CHECKED}.")
    return shown_names(label_names(classes, flags.FLAGS.labels, class_names(model)) or range(classes))


def _is_one(paths):
    """Whether --image names one file, which has to be an image."""
    return len(paths) == 1 and paths == flags.FLAGS.image


def _code(errors, paths, screen):
    if errors:
        screen.say(f"{len(errors):,} of {len(paths):,} images cannot be read.")
    return 1 if errors else 0
