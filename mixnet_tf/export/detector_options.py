"""What the export of a detector makes, and how."""

from typing import NamedTuple

from mixnet_tf.errors import InputError
from mixnet_tf.export.rewrite import LARGE_KERNELS

DETECTOR_FORMATS = ("fp32", "fp16", "dynamic", "int8")
POSTPROCESSES = ("nms", "none")


class DetectorOptions(NamedTuple):
    """How a detector is exported.

    Attributes:
        formats: Some of `DETECTOR_FORMATS`, each once.
        postprocess: "nms": the file decodes its boxes and suppresses those that overlap, by TensorFlow Lite's own op.
            "none": it gives coded boxes and scores by builtin ops alone, and its metadata has the anchors.
        large_kernels: As in `ExportOptions`.
        author: As in `ExportOptions`.
        license: As in `ExportOptions`.
        allow_accuracy_drop: As in `ExportOptions`.
        latency_runs: As in `ExportOptions`.
    """

    formats: tuple[str, ...] = ("fp32",)
    postprocess: str = "nms"
    large_kernels: str = "split"
    author: str | None = None
    license: str | None = None
    allow_accuracy_drop: bool = False
    latency_runs: int = 20

    def check(self) -> "DetectorOptions":
        """Checks every field, and returns the options.

        Raises:
            ValueError: For a value out of its range.
        """
        unknown = sorted(set(self.formats) - set(DETECTOR_FORMATS))
        if unknown or not self.formats or len(set(self.formats)) < len(self.formats):
            raise InputError(
                f"formats: expected some of {list(DETECTOR_FORMATS)} for a detector, each once; received "
                f"{list(self.formats)}."
            )
        for name, allowed in (("postprocess", POSTPROCESSES), ("large_kernels", LARGE_KERNELS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}: expected one of {allowed}; received {getattr(self, name)!r}.")
        if self.latency_runs < 0:
            raise InputError(f"latency_runs: expected a whole number from 0; received {self.latency_runs!r}.")
        return self
