"""Verifies the seven published sets of weights, which needs the network: `make verify-weights`.

Downloads Google's three archives unless they are cached, converts them again, compares them variable by variable with
what timm publishes, and checks the one published answer: MixNet-S on a photograph of a panda, in the reference's
notebook. Of timm's own four sets no answer is published: their sizes, checksums and variables are checked.
"""

import os
import urllib.request

import numpy as np
import tensorflow as tf
from absl import flags

from mixnet_tf.commands import process
from mixnet_tf.data import preprocess_for_eval
from mixnet_tf.downloads import sha256_of
from mixnet_tf.errors import InputError
from mixnet_tf.models import build_model
from mixnet_tf.weights import assign, list_weights, read_weights
from mixnet_tf.weights.converted import converted_file, google_weights
from mixnet_tf.weights.google import ARCHIVES
from mixnet_tf.weights.hub import hub_file
from mixnet_tf.weights.pretrained import timm_weights

GOOGLES = list(ARCHIVES)  # networks
TIMMS = [record for record in list_weights() if record.weights.startswith("hf://")]
PHOTOGRAPH = "https://upload.wikimedia.org/wikipedia/commons/f/fe/Giant_Panda_in_Beijing_Zoo_1.JPG"
PHOTOGRAPH_SIZE = 116_068  # bytes
# Class of ImageNet, its name, and the reference's probability in per cent.
ANSWER = (
    (388, "giant panda", 94.39),
    (362, "badger", 0.18),
    (387, "lesser panda", 0.11),
    (348, "ram", 0.09),
    (296, "ice bear", 0.07),
)
TOLERANCE = 1.0  # per cent; decoders of JPEG differ

_PHOTOGRAPH = flags.DEFINE_string("photograph", None, f"A file of {PHOTOGRAPH}; the default is to download it.")


def verify_conversion(model_name):
    """Converts the published archive of a network again, and returns the model with its weights.

    Raises:
        ConnectionError: If the archive cannot be downloaded.
        ValueError: If its size or checksum is wrong, if it does not fit the model, or if a variable stays unchanged.
    """
    converted_file(model_name).unlink(missing_ok=True)
    return _read_into(model_name, model_name, google_weights(model_name))


def verify_timms(record):
    """Checks the file of a set of timm's own, and reads it into a new model; returns the model.

    Raises:
        ConnectionError: If the file cannot be downloaded.
        ValueError: If its size or checksum is wrong, if it does not fit the model, or if a variable stays unchanged.
    """
    path = hub_file(record.weights)
    found = {"size": os.path.getsize(path), "sha256": sha256_of(path)}
    for name, value in found.items():
        known = getattr(record, name)
        if known not in (None, value):
            raise InputError(f"{path}: expected {known} as its {name}, received {value}.")
        print(f"{record.name}: {name} {value}, {'not published' if known is None else 'as published'}.")
    model = _read_into(record.name, record.model_name, read_weights(record.weights))
    print(f"{record.name}: no answer of these weights is published, so none was compared.")
    return model


def _read_into(title, model_name, read):
    """A new model with the weights, of which each variable is read and finite."""
    model = build_model(model_name, dict(read.params or {}), input_shape=(224, 224, 3))
    before = [weight.numpy() for weight in model.weights]
    assign(model, read)
    for weight, initial in zip(model.weights, before, strict=True):
        if np.array_equal(weight.numpy(), initial) or not np.isfinite(weight.numpy()).all():
            raise InputError(f"{read.source}: variable {weight.path} was not read, or is not finite.")
    print(f"{title}: all {len(before)} variables were read.")
    return model


def verify_sources(model_name):
    """Compares the two sources of a network's weights, variable by variable.

    Raises:
        ConnectionError: If one of them cannot be downloaded.
        ValueError: If a variable is missing from one of them, or differs.
    """
    googles, timms = google_weights(model_name).arrays, timm_weights(model_name).arrays
    wrong = [key for key in {**googles, **timms} if not np.array_equal(googles.get(key), timms.get(key))]
    if wrong:
        named = ", ".join("/".join(map(str, key)) for key in wrong[:10])
        raise InputError(f"{model_name}: {len(wrong)} variables differ between Google's and timm's files: {named}.")
    print(f"{model_name}: all {len(googles)} variables are equal in Google's and timm's files.")


def photograph(path=None):
    """The bytes of the photograph of a panda, from a file or downloaded.

    Raises:
        ConnectionError: If it cannot be downloaded.
        ValueError: If it has another size than the published one.
    """
    try:
        if path is not None:
            with tf.io.gfile.GFile(path, "rb") as file:
                content = file.read()
        else:
            # The host refuses Python's own name for itself.
            request = urllib.request.Request(PHOTOGRAPH, headers={"User-Agent": "mixnet_tf-verify-weights/1"})
            with urllib.request.urlopen(request, timeout=60) as response:
                content = response.read()
    except (OSError, tf.errors.OpError) as error:
        raise ConnectionError(
            f"{path or PHOTOGRAPH} could not be read: {error}. Give it as --photograph=FILE."
        ) from error
    if len(content) != PHOTOGRAPH_SIZE:
        raise InputError(f"The photograph has {len(content)} bytes, but the published one {PHOTOGRAPH_SIZE}.")
    return content


def verify_answer(model, image_bytes):
    """Compares a MixNet-S's probabilities with the published ones.

    Raises:
        ValueError: If one is further than `TOLERANCE` away.
    """
    probabilities = 100 * model(preprocess_for_eval(image_bytes, 224)[None]).numpy()[0]
    wrong = []
    for number, name, expected in ANSWER:
        print(f"{name}: {probabilities[number]:.2f}%, published {expected:.2f}%")
        if not abs(probabilities[number] - expected) <= TOLERANCE:  # so that NaN is wrong
            wrong.append(name)
    if wrong:
        raise InputError(f"The probabilities of {wrong} are further than {TOLERANCE} per cent from the published ones.")


def main(_screen):
    models = {model_name: verify_conversion(model_name) for model_name in GOOGLES}
    for model_name in GOOGLES:
        verify_sources(model_name)
    for record in TIMMS:
        verify_timms(record)
    verify_answer(models["mixnet-s"], photograph(_PHOTOGRAPH.value))
    print("Google's MixNet-S gives the published answer.")
    return 0


if __name__ == "__main__":
    process.run(main)
