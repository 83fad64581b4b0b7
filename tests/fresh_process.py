"""Builds MixNet-S and opens saved models in a process that imports only mixnet_tf, and writes the results as JSON.

Usage: python fresh_process.py IMAGES.npy OUT.json A.keras B.keras ...
"""

import json
import os
import sys

import keras
import numpy as np

# TensorFlow or Keras have imported some of them already; here they cannot be imported any more.
for package in ("ai_edge_litert", "flatbuffers", "PIL", "requests", "tensorflow_datasets"):
    sys.modules[package] = None
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
environment = dict(os.environ)

import mixnet_tf  # noqa: E402

images_file, out_file, *model_files = sys.argv[1:]
images = np.load(images_file)
mixnet_tf.MixNetS()
modules = {".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("mixnet_tf.")}
names = dir(mixnet_tf)
kept = dict(os.environ) == environment
answers, optimizers = {}, {}
for path in model_files:
    model = keras.models.load_model(path)
    answers[path] = keras.tree.map_structure(lambda value: value.numpy().tolist(), model(images))
    optimizers[path] = keras.saving.serialize_keras_object(model.optimizer) if model.compiled else None
with open(out_file, "w") as file:
    found = {"modules": sorted(modules), "names": names, "answers": answers, "optimizers": optimizers}
    json.dump({**found, "environment_is_kept": kept}, file)
