"""The layers that score classes, and keep the names of these classes in a model's configuration."""

from collections.abc import Sequence
from typing import Any

import keras

from mixnet_tf.class_names import checked_names


class _NamesClasses:
    """A Keras layer whose configuration stores the names of the classes that it scores."""

    def __init__(self, *args: Any, class_names: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.class_names = None if class_names is None else checked_names(class_names, "class_names")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()  # type: ignore[misc]
        return config if self.class_names is None else {**config, "class_names": list(self.class_names)}


@keras.saving.register_keras_serializable("mixnet_tf")
class Dense(_NamesClasses, keras.layers.Dense):
    """Keras' dense layer as a classifier, with the names of its classes.

    Args:
        units: Number of classes.
        class_names: A name for each class; None: not known.
        **kwargs: Arguments of `keras.layers.Dense`.

    Input: (batch, channels).
    Output: (batch, units).
    """


@keras.saving.register_keras_serializable("mixnet_tf")
class Concatenate(_NamesClasses, keras.layers.Concatenate):
    """Concatenates the class scores of a detector's feature maps, and stores the names of the classes.

    Args:
        class_names: A name for each class, without the background; None: not known.
        **kwargs: Arguments of `keras.layers.Concatenate`.
    """
