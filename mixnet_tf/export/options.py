"""What an export makes, and how."""

from typing import NamedTuple

from mixnet_tf.errors import InputError
from mixnet_tf.export import quantize
from mixnet_tf.export.rewrite import LARGE_KERNELS
from mixnet_tf.export.target import OUTPUTS

FORMATS = (*quantize.TFLITE_FORMATS, "saved_model")


class ExportOptions(NamedTuple):
    """How a model is exported.

    Attributes:
        formats: Some of `FORMATS`, each once.
        batch_size: Images in a batch of the TFLite files; 0 for any number.
        large_kernels: What becomes of depthwise kernels of over 25 taps, as `InferenceFunction` takes it.
        int8_float_parts: Parts of the network that stay float in the int8 file, those with the largest error.
        output: "probabilities" or "logits".
        crop: Whether the SavedModel's `image_bytes` are cropped as in `preprocess_for_eval`.
        author: Author of the model, for the metadata; None: not named.
        license: License of the model, for the metadata; None: not named.
        allow_accuracy_drop: Whether a file that fails its gate is written anyway.
        latency_runs: Invocations of each model to time; 0: no latency is measured.
    """

    formats: tuple[str, ...] = ("fp32",)
    batch_size: int = 1
    large_kernels: str = "split"
    int8_float_parts: int = 0
    output: str = "probabilities"
    crop: bool = True
    author: str | None = None
    license: str | None = None
    allow_accuracy_drop: bool = False
    latency_runs: int = 20

    def check(self) -> "ExportOptions":
        """Checks every field, and returns the options.

        Raises:
            ValueError: For a value out of its range, or float parts of no int8 file.
        """
        unknown = sorted(set(self.formats) - set(FORMATS))
        if unknown or not self.formats or len(set(self.formats)) < len(self.formats):
            raise InputError(f"formats: expected some of {list(FORMATS)}, each once; received {list(self.formats)}.")
        for name, allowed in (("large_kernels", LARGE_KERNELS), ("output", OUTPUTS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}: expected one of {allowed}; received {getattr(self, name)!r}.")
        for name in ("batch_size", "latency_runs", "int8_float_parts"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected a whole number from 0; received {getattr(self, name)!r}.")
        if self.int8_float_parts and "int8" not in self.formats:
            raise InputError(f"int8_float_parts goes with the format int8; received formats {list(self.formats)}.")
        return self

    @property
    def calibrates(self) -> bool:
        """Whether a format needs calibration images."""
        return bool(set(self.formats) & set(quantize.NEEDS_CALIBRATION))
