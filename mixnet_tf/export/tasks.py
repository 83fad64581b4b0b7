"""What an export does differently for a classifier and for a detector."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import keras

from mixnet_tf.errors import InputError
from mixnet_tf.export.half_precision import HalfPrecision
from mixnet_tf.export.metadata import Output
from mixnet_tf.export.options import ExportOptions
from mixnet_tf.networks import Resizing
from mixnet_tf.progress import Progress

Verified = tuple[dict[str, Any], list[str], list[str]]  # entries of the report; failures and warnings, sentences


class Task(abc.ABC):
    """A model to export, and what is done differently for its kind.

    Args:
        model: The `keras.Model` that `export_model` is given.
        options: `ExportOptions`, checked.

    Attributes:
        model: A float32 `keras.Model` that takes RGB images in [0, 255] and computes what the files compute.
        classes: Number of classes.
        foreign_layers: Names of the layers that are not MixNet's; None: not told.
        kind: What the model is, in words.
        formats: Those of `FORMATS` that it can be exported in.
        foreign_options: Fields of the options and settings that are for models of another kind.
        measured_on: The argument of `export_model` with what the images show, "labels" or "objects".
        reading: What Keras does with images, in words, where the progress says it.
        measured_form: Name of the graph that int8 is calibrated by.
        float_behind: Kind of the ops behind which int8 files stay float; None: nothing does.
        allows_custom_ops: Whether the files may contain an op that is none of TensorFlow's.
        threads: Numbers of threads that latency is measured with.
        num_images: Images that the files are measured on, once `measure` was called.
        resizing: How encoded images are cropped and resized; None: the files take none.

    Raises:
        ValueError: For a model that cannot be exported, or options that are for models of another kind.
    """

    kind: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    foreign_options: ClassVar[tuple[str, ...]]
    measured_on: ClassVar[str]
    reading: ClassVar[str] = ""
    float_behind: ClassVar[str | None] = None
    allows_custom_ops: ClassVar[bool] = False
    threads: ClassVar[tuple[int, ...]]
    model: keras.Model
    classes: int
    foreign_layers: list[str] | None = None
    measured_form: str
    num_images: int
    resizing: Resizing | None = None

    def __init__(self, model: keras.Model, options: ExportOptions) -> None:
        self.options = options
        if unknown := set(options.formats) - set(self.formats):
            raise InputError(
                f"formats: expected some of {list(self.formats)} for {self.kind}; received {sorted(unknown)}."
            )
        defaults = ExportOptions._field_defaults
        if foreign := [name for name in self.foreign_options if getattr(options, name, None) != defaults.get(name)]:
            raise InputError(f"Model {model.name!r} is {self.kind}; leave out {', '.join(foreign)}.")

    def shown_options(self) -> dict[str, Any]:
        """The options that are for this kind of model, as the report has them."""
        shown = {name: value for name, value in self.options._asdict().items() if name not in self.foreign_options}
        if self.resizing is not None:
            shown |= {"crop": self.resizing.crops, **self.resizing._asdict()}
        return {name: value for name, value in shown.items() if name != "resizing"}

    @abc.abstractmethod
    def form_for(self, accelerator: str) -> str:
        """The name of the graph that the files for an accelerator contain."""

    @abc.abstractmethod
    def graph(self, form: str, format_name: str, accelerator: str, units: Any) -> Callable:
        """The rewritten graph in a form for a format and an accelerator, a function of images.

        Args:
            form: A form of `form_for`, or `measured_form`.
            format_name: One of `formats`.
            accelerator: One of `ACCELERATORS`.
            units: Those of `InferenceFunction`.
        """

    @abc.abstractmethod
    def graph_as_written(self) -> Callable:
        """The Keras model's own graph, in the form of the files for a CPU."""

    @abc.abstractmethod
    def answers(self, images: Any) -> Any:
        """Keras' outputs for images, in the measured form."""

    @abc.abstractmethod
    def distance(self, content: bytes, images: Any, expected: Any, seen: Callable[[], None] | None = None) -> float:
        """How far a file in the measured form is from what `answers` gave; calls `seen` for each image."""

    @abc.abstractmethod
    def measure(self, images: Any, labels: Any, objects: Any, progress: Progress) -> None:
        """Measures Keras on the arguments of `export_model`, on which the files are measured later."""

    @abc.abstractmethod
    def verify(self, format_name: str, path: str, content: Any, flex_ops: int, progress: Progress) -> Verified:
        """Compares a file with Keras and judges it.

        Args:
            format_name: One of `formats`.
            path: Where a SavedModel will be; it is written aside.
            content: Bytes of a TFLite file; None for a SavedModel.
            flex_ops: Number of its ops that are not builtin ones.
            progress: Shows the phases of the work.
        """

    @abc.abstractmethod
    def verify_in_half_precision(self, content: bytes, simulated: HalfPrecision, progress: Progress) -> Verified:
        """Compares a file's answers in half precision with Keras', and judges them."""

    @abc.abstractmethod
    def described_outputs(self, content: bytes) -> tuple[list[Output], dict[str, bytes]]:
        """What the metadata of a file says of its outputs, and its custom entries."""
