"""How far a phone's ways to resize are from timm's bicubic: `python benchmarks/phone_resize.py --enlarged=4`.

Prints the mean distance in grey levels for each way, and, with a model, the mean probability of the class that wins.
The images are scikit-learn's two photographs or those of --images.

    python benchmarks/phone_resize.py --images=FOLDER --weights=hf://timm/mixnet_xl.ra_in1k --model_name=mixnet-xl
"""

import numpy as np
import tensorflow as tf
from absl import flags
from sklearn.datasets import load_sample_images

from mixnet_tf.commands import process
from mixnet_tf.data import UPRIGHT, decode_image, list_images, preprocess_for_eval
from mixnet_tf.networks import TIMMS
from mixnet_tf.saved_models import open_model

_SIZE = 224  # pixels


def define_flags():
    flags.DEFINE_string("images", None, "Folder of images; by default scikit-learn's two photographs.")
    flags.DEFINE_integer("enlarged", 1, "Factor by which the images are enlarged first (Lanczos).", lower_bound=1)
    flags.DEFINE_string("weights", None, "Weights of timm's, or a .keras file; None: no probabilities.")
    flags.DEFINE_string("model_name", None, "The network of --weights, unless they are a .keras file.")


def bicubic(image):
    """What timm's evaluation does."""
    return preprocess_for_eval(tf.io.encode_png(tf.cast(image, tf.uint8)), _SIZE, TIMMS)


def plain(image):
    """Bilinear without antialiasing, as a phone resizes a picture or a camera's frame in one step."""
    shape = tf.shape(image)[:2]
    resized = tf.image.resize(image, 256 * shape // tf.reduce_min(shape))
    top, left = (round((side - _SIZE) / 2) for side in resized.shape[:2])
    return resized[top : top + _SIZE, left : left + _SIZE]


def halved(image):
    """The same after halving by means of 2 x 2 pixels while the shorter side is at least twice 256 pixels."""
    while min(image.shape[:2]) >= 512:
        image = tf.nn.avg_pool2d(image[tf.newaxis], 2, 2, "VALID")[0]
    return plain(image)


def main(screen):
    values = flags.FLAGS
    if values.images is None:
        images = load_sample_images().images
    else:
        images = (decode_image(tf.io.read_file(path), UPRIGHT) for path in list_images(values.images, UPRIGHT))
    model = None
    if values.weights is not None:
        model = open_model(values.weights, model_name=values.model_name, image_size=_SIZE).model
    distances = {way: [] for way in (bicubic, plain, halved)}
    probabilities = {way: [] for way in distances}
    for image in images:
        size = values.enlarged * np.array(image.shape[:2])
        large = tf.clip_by_value(tf.image.resize(tf.cast(image, tf.float32), size, "lanczos3"), 0, 255)
        expected = bicubic(large)
        for way in distances:
            found = way(large)
            distances[way].append(float(tf.reduce_mean(tf.abs(found - expected))))
            if model is not None:
                probabilities[way].append(float(tf.reduce_max(model(found[tf.newaxis]))))
    for way, each in distances.items():
        of_model = "" if model is None else f", mean probability {np.mean(probabilities[way]):.2%}"
        screen.say(f"{way.__name__}: {np.mean(each):.2f} grey levels over {len(each)} images{of_model}")
    return 0


if __name__ == "__main__":
    process.run(main, define_flags)
