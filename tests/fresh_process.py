"""Loads saved models where nothing but mixnet_tf was imported, and writes what they answer.

Usage: python fresh_process.py IMAGES.npy OUT.npz A.keras B.keras ...
"""

import sys

import keras
import numpy as np

import mixnet_tf  # noqa: F401  (registers the layers)

images_file, out_file, *model_files = sys.argv[1:]
images = np.load(images_file)
answers = {}
for path in model_files:
    model = keras.models.load_model(path)
    answers[path] = model(images).numpy()
np.savez(out_file, **answers)
