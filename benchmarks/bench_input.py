"""Times the input pipeline on one thread against bare decoding of the same windows of the same JPEGs.

The images are 500 x 375 pixels, as most of ImageNet's: crops of scikit-learn's two photographs, encoded
at qualities that give ImageNet's size in bytes, all different. A ratio of 1 would mean that everything
except the JPEG decoder is free. Images with an EXIF orientation, 1 or 6, are compared otherwise: a pipeline
that does not look at it against one that turns them. So is augmentation: the pipeline of training without any
against one with it, and against one with Keras' layer of that name.
"""

import pathlib
import statistics
import struct

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf
from absl import flags
from measurement import in_turns, median_ratio, write_report

from mixnet_tf.commands import process
from mixnet_tf.data import (
    NEWEST,
    UPRIGHT,
    Split,
    center_window,
    eval_batches,
    random_window,
    train_batches,
    train_examples,
)
from mixnet_tf.recipe import Recipe

_HEIGHT, _WIDTH = 375, 500
_QUALITIES = (95, 96, 97, 98)  # a mean of 95 KB a file; ImageNet's is about 110
_BATCH_SIZE = 32
_MIN_RATIOS = {"eval": 0.72, "train": 0.63, "eval, EXIF 1": 0.85, "eval, EXIF 6": 0.62}
_MIXED = {"mixup": 0.2, "cutmix": 1.0}
_AUGMENTATION = {"randaugment_layers": 2, "randaugment_magnitude": 9.0, "color_jitter": 0.4, "erasing": 0.25, **_MIXED}

_IMAGES = flags.DEFINE_integer("images", 128, "Images per round.", lower_bound=_BATCH_SIZE)
_ROUNDS = flags.DEFINE_integer("rounds", 25, "Rounds; the figures are medians over them.", lower_bound=1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Height and width of the pipeline's output, pixels.")
_JSON = flags.DEFINE_string("json", None, "Also write the figures to this file.")


def jpegs(count):
    """`count` different JPEG files of 500 x 375 pixels, as bytes."""
    folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    photographs = [tf.io.decode_jpeg((folder / name).read_bytes()).numpy() for name in ("china.jpg", "flower.jpg")]
    rng = np.random.default_rng(0)
    files = []
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        y, x = (rng.integers(0, n - size + 1) for n, size in zip(photograph.shape, (_HEIGHT, _WIDTH), strict=False))
        crop = photograph[y : y + _HEIGHT, x : x + _WIDTH]
        files.append(tf.io.encode_jpeg(crop, quality=int(rng.choice(_QUALITIES))).numpy())
    return files


def _with_orientation(file, orientation):
    """A JPEG with an EXIF segment of one entry."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    content = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    return file[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + file[2:]


def _split(files, rules=NEWEST):
    def read(shuffle_seed=None, shard=0, num_shards=1):
        del shuffle_seed, shard, num_shards
        examples = {"image": files, "label": np.arange(len(files)), "id": [str(i) for i in range(len(files))]}
        return tf.data.Dataset.from_tensor_slices(examples)

    return Split("jpegs", "train", len(files), None, len(files), read, rules=rules)


def _one_thread():
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False  # AUTOTUNE is then the size of the pool
    return options


def _bare(files, windows):
    """Decodes each image, and keeps one byte of it, so that TensorFlow skips none."""

    def decode(image_bytes, window):
        return tf.io.decode_and_crop_jpeg(image_bytes, window, channels=3)[0, 0]

    images = tf.data.Dataset.from_tensor_slices((files, windows)).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return images.batch(_BATCH_SIZE).prefetch(tf.data.AUTOTUNE)


def _reader(dataset):
    dataset = dataset.with_options(_one_thread())

    def prepare():
        batches = iter(dataset)  # nothing is read before the first batch is asked for

        def read():
            for _ in batches:
                pass

        return read

    return prepare


def _contenders(files, image_size):
    """What is compared: bare decoding with the pipeline, and pipelines that turn nothing with those that do."""
    split, recipe = _split(files), Recipe(image_size=image_size)
    count = len(files)
    shapes = [tf.io.extract_jpeg_shape(file) for file in files]
    centers = [center_window(shape, image_size) for shape in shapes]
    taken = [(example["image"], seed) for example, seed in train_examples(split, recipe).take(count)]
    order = [file.numpy() for file, _ in taken]
    at_random = [random_window(tf.io.extract_jpeg_shape(file), image_size, seed) for file, seed in taken]
    with_exif = {f"eval, EXIF {each}": [_with_orientation(file, each) for file in files] for each in (1, 6)}
    return {
        **{
            kind: tuple(eval_batches(_split(own, rules), image_size, _BATCH_SIZE) for rules in (NEWEST, UPRIGHT))
            for kind, own in with_exif.items()
        },
        "eval": (_bare(files, centers), eval_batches(split, image_size, _BATCH_SIZE)),
        "train": (
            _bare(order, at_random),
            train_batches(split, recipe, _BATCH_SIZE).take(count // _BATCH_SIZE),
        ),
    }


def _augmented(files, image_size):
    """What augmentation costs: pipelines of training without any, and with ours or with Keras' layer."""
    split, batches = _split(files), len(files) // _BATCH_SIZE
    layers = keras.layers
    of_keras = {
        "randaugment_layers": layers.RandAugment(num_ops=2, factor=0.9),
        "color_jitter": layers.RandomColorJitter((0, 255), 0.4, 0.4, 0.4),
        "erasing": layers.RandomErasing(0.5),  # its probability is drawn from 0 to this
        "mixup": layers.MixUp(0.2),
        "cutmix": layers.CutMix(1.0),
    }
    recipe = Recipe(image_size=image_size)

    def ours(fields):
        return train_batches(split, recipe._replace(**fields), _BATCH_SIZE).take(batches)

    def keras_of_images(layer):
        # Each image is augmented by itself, as ours are.
        def augment(images, labels):
            return layer(images)[0], labels[0]

        own = train_batches(split, recipe, 1).take(len(files))
        return own.map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(_BATCH_SIZE).prefetch(tf.data.AUTOTUNE)

    def keras_of_batches(layer):
        def mix(images, labels):
            return layer({"images": images, "labels": tf.one_hot(labels, split.num_classes)})

        return ours({}).map(mix, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    kinds = {name: (ours({}), ours({name: value})) for name, value in _AUGMENTATION.items() if name in of_keras}
    kinds["mixup and cutmix"] = (ours({}), ours(_MIXED))
    kinds["all of them"] = (ours({}), ours(_AUGMENTATION))
    for name, layer in of_keras.items():
        other = (keras_of_batches if name in _MIXED else keras_of_images)(layer)
        kinds[f"Keras' {type(layer).__name__}"] = (ours({}), other)
    return kinds


def main(_screen):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    count = _IMAGES.value // _BATCH_SIZE * _BATCH_SIZE
    files = jpegs(count)
    kinds = _contenders(files, _IMAGE_SIZE.value) | _augmented(files, _IMAGE_SIZE.value)
    readers = {}
    for kind, (bare, ours) in kinds.items():
        readers |= {f"{kind}, bare": _reader(bare), f"{kind}, pipeline": _reader(ours)}
    seconds = in_turns(readers, _ROUNDS.value)
    figures = {"images": count, "mean_bytes": round(statistics.mean(map(len, files))), "image_size": _IMAGE_SIZE.value}
    for kind in kinds:
        bare, ours = seconds[f"{kind}, bare"], seconds[f"{kind}, pipeline"]
        figures[kind] = {
            "bare_images_per_second": round(count / statistics.median(bare["wall"])),
            "pipeline_images_per_second": round(count / statistics.median(ours["wall"])),
            "ratio": round(median_ratio(bare["wall"], ours["wall"]), 3),
            "ratio_of_cpu_time": round(median_ratio(bare["cpu"], ours["cpu"]), 3),
            "ratio_of_least_cpu_time": round(min(bare["cpu"]) / min(ours["cpu"]), 3),  # the quiet rounds
            "min_ratio": _MIN_RATIOS.get(kind),
        }
        print(kind, figures[kind], flush=True)
    write_report(_JSON.value, figures)
    return 0


if __name__ == "__main__":
    process.run(main)
