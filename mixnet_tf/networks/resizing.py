"""How images are cropped, resized and normalized for a model, and the layer that says it."""

from typing import Annotated, Any, NamedTuple

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.settings import Setting, check, documented

BILINEAR, BICUBIC = INTERPOLATIONS = ("bilinear", "bicubic")
CROP_PADDING = 32  # pixels; source: preprocessing.py:CROP_PADDING
INTERPOLATION = Setting(
    "How images are resized. bilinear: as TensorFlow 1 does; bicubic: antialiased, as Pillow does.",
    choices=INTERPOLATIONS,
)


@documented
class Resizing(NamedTuple):
    """How images are cropped and resized to a model's image size; with neither crop the whole image is resized."""

    crop_padding: Annotated[
        int | None,
        Setting(
            "Center crop: image_size / (image_size + this many pixels) of the shorter side, cut out and then resized.",
            least=0,
        ),
    ] = CROP_PADDING
    crop_fraction: Annotated[
        float | None,
        Setting(
            "Center crop: the shorter side is resized to image_size / this fraction, and the center is cut out.",
            above=0,
            most=1,
        ),
    ] = None
    interpolation: Annotated[str, INTERPOLATION] = BILINEAR

    @property
    def crops(self) -> bool:
        """Whether the center is cropped."""
        return self.crop_padding is not None or self.crop_fraction is not None

    def given(
        self,
        crop: bool | None = None,
        crop_padding: int | None = None,
        crop_fraction: float | None = None,
        interpolation: str | None = None,
    ) -> "Resizing":
        """The resizing with what a person asks for instead; what is None stays.

        Args:
            crop: Whether to take the center crop; if so, and there is none yet, with Google's `CROP_PADDING`.
            crop_padding: In place of the crop.
            crop_fraction: In place of the crop.
            interpolation: "bilinear" or "bicubic".

        Raises:
            ValueError: If two of these contradict each other, or if one is out of its range.
        """
        crops = {"crop_padding": crop_padding, "crop_fraction": crop_fraction}
        asked = [name for name, value in crops.items() if value is not None]
        if asked and crop is False:
            raise InputError(f"Without the center crop there is no {' and no '.join(asked)}; leave one of them out.")
        chosen = self if interpolation is None else self._replace(interpolation=interpolation)
        if asked or crop is False:
            chosen = chosen._replace(crop_padding=crop_padding, crop_fraction=crop_fraction)
        elif crop and not chosen.crops:
            chosen = chosen._replace(crop_padding=CROP_PADDING)
        return chosen.check()

    def check(self) -> "Resizing":
        """Checks the fields, and returns the resizing.

        Raises:
            ValueError: If a field is out of its range, or if there are two crops.
        """
        check(self)
        if self.crop_padding is not None and self.crop_fraction is not None:
            raise InputError(
                f"Give either crop_padding or crop_fraction; received {self.crop_padding} and {self.crop_fraction}."
            )
        return self

    def words(self, image_size: int) -> str:
        """What a model of an image size sees of an image, in words."""
        if not self.crops:
            return f"the whole image, {self.interpolation}"
        fraction = self.crop_fraction or image_size / (image_size + (self.crop_padding or 0))
        return f"the center square of {fraction:.1%} of the shorter side, {self.interpolation}"


GOOGLES = Resizing()  # of Google's weights, and of all runs
TIMMS = Resizing(None, 0.875, BICUBIC)  # of timm's own weights


@keras.saving.register_keras_serializable("mixnet_tf")
class Preprocessing(keras.layers.Layer):
    """Normalizes RGB in [0, 255] as the network was trained, and says how its images were cropped and resized.

    Input and output: (batch, height, width, 3). Computed in the layer's compute dtype, as the
    reference does under bfloat16. Source: imagenet_input.py, mnasnet_main.py:MEAN_RGB, STDDEV_RGB.

    Args:
        crop_padding: As in `Resizing`. The layer does not crop or resize: evaluation and export do, as it says.
        crop_fraction: As in `Resizing`.
        interpolation: As in `Resizing`. If all three are None, the layer says nothing, as in files of 0.1.0 and 0.2.0.

    Raises:
        ValueError: If one of the three is out of its range, or if there are two crops.
    """

    MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
    STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)

    def __init__(
        self,
        crop_padding: int | None = None,
        crop_fraction: float | None = None,
        interpolation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.crop_padding, self.crop_fraction, self.interpolation = crop_padding, crop_fraction, interpolation
        if self.resizing is not None:
            self.resizing.check()

    @property
    def resizing(self) -> Resizing | None:
        """What the layer says; None: nothing."""
        if (self.crop_padding, self.crop_fraction, self.interpolation) == (None, None, None):
            return None
        return Resizing(self.crop_padding, self.crop_fraction, self.interpolation or BILINEAR)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        images = tf.cast(inputs, self.compute_dtype)
        mean = tf.constant(self.MEAN_RGB, images.dtype)
        stddev = tf.constant(self.STDDEV_RGB, images.dtype)
        return (images - mean) / stddev

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        said = {} if self.resizing is None else self.resizing._asdict()
        return {**super().get_config(), **{name: value for name, value in said.items() if value is not None}}
