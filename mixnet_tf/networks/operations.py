"""The operations of a Keras model, those of the models inside it included."""

from collections.abc import Iterator
from typing import Any

import keras


def steps(model: keras.Model) -> Iterator[Any]:
    """The operations of a model and of the models inside it, each behind those that it takes its inputs from."""
    for step in model.layers if isinstance(model, keras.Sequential) else getattr(model, "operations", model.layers):
        if isinstance(step, keras.Sequential) or hasattr(step, "operations"):
            yield from steps(step)
        elif not isinstance(step, keras.layers.InputLayer):
            yield step
