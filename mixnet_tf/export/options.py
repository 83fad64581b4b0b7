"""Settings of an export: the formats, and how they are made."""

from typing import Annotated, NamedTuple

from mixnet_tf.detection import IOU_THRESHOLD
from mixnet_tf.errors import InputError
from mixnet_tf.export import ahead_of_time, quantize
from mixnet_tf.export.arithmetics import ACCELERATORS, CPU, NPU
from mixnet_tf.export.rewrite import LARGE_KERNELS
from mixnet_tf.export.target import OUTPUTS
from mixnet_tf.networks import Resizing
from mixnet_tf.settings import Setting, check, documented

FORMATS = (*quantize.TFLITE_FORMATS, "saved_model")
NMS, BOXES, RAW = POSTPROCESSES = ("nms", "boxes", "none")
# Of a file that suppresses boxes. Chosen on validation scenes: benchmarks/bench_suppression.py, docs/DETECTION.md.
EXPORTED_SCORE_THRESHOLD = 0.1


@documented
class ExportOptions(NamedTuple):
    """How a model is exported."""

    formats: Annotated[
        tuple[str, ...],
        Setting(
            "Formats of the files; int8_full is int8 with uint8 input and, of a classifier, uint8 output. Not "
            "saved_model of a detector.",
            choices=FORMATS,
        ),
    ] = ("fp32",)
    accelerator: Annotated[
        tuple[str, ...],
        Setting(
            "What the TFLite files run on; those for gpu and npu have the word in their name. A detector for gpu or "
            "npu is without the postprocessing nms.",
            choices=ACCELERATORS,
        ),
    ] = (CPU,)
    batch_size: Annotated[
        int, Setting("Images in a batch of the TFLite files; 0: any number. 1 for a detector.", least=0)
    ] = 1
    large_kernels: Annotated[
        str,
        Setting(
            "cpu: depthwise kernels of more than 25 taps. split: replaced by sums of smaller ones; keep: unchanged.",
            choices=LARGE_KERNELS,
        ),
    ] = "split"
    int8_float_parts: Annotated[
        int,
        Setting(
            "int8: number of parts of the network that stay float, those with the largest error. Classifiers only.",
            least=0,
        ),
    ] = 0
    output: Annotated[str, Setting("Output of the files. Classifiers only.", choices=OUTPUTS)] = "probabilities"
    crop: Annotated[
        bool | None,
        Setting("Whether the SavedModel takes the center crop of encoded images; by default as the model says."),
    ] = None
    resizing: Annotated[
        Resizing | None,
        Setting("How the SavedModel crops and resizes encoded images, in place of what the model says."),
    ] = None
    author: Annotated[str | None, Setting("Author of the model, for the files' metadata.")] = None
    license: Annotated[str | None, Setting("License of the model, for the files' metadata.")] = None
    allow_accuracy_drop: Annotated[bool, Setting("Whether files that fail their gate are written, too.")] = False
    latency_runs: Annotated[
        int, Setting("Number of times each model is run to measure its latency; 0: not measured.", least=0)
    ] = 20
    half_precision_images: Annotated[
        int,
        Setting(
            "Images on which half precision, as phones compute fp16 and files for gpu and npu, is simulated; of a "
            "detector all are. 0: it is not.",
            least=0,
        ),
    ] = 200
    postprocess: Annotated[
        str | None,
        Setting(
            "Detectors only. nms: the file decodes boxes and suppresses overlapping ones, by TensorFlow Lite's own op; "
            "boxes: it decodes boxes by builtin ops alone, and the app suppresses; none: it gives encoded boxes by "
            "builtin ops alone, and the anchors are in its metadata. By default nms for cpu, boxes for gpu and npu.",
            choices=POSTPROCESSES,
        ),
    ] = None
    score_threshold: Annotated[
        float | None,
        Setting(
            f"postprocess nms: detections with a lower score are left out; by default {EXPORTED_SCORE_THRESHOLD}.",
            least=0,
            below=1,
        ),
    ] = None
    iou_threshold: Annotated[
        float | None,
        Setting(
            "postprocess nms: of two boxes of a class that overlap by more, the less probable one is suppressed; by "
            f"default {IOU_THRESHOLD}.",
            above=0,
            most=1,
        ),
    ] = None
    soc_models: Annotated[
        tuple[str, ...] | None,
        Setting(
            "Snapdragons, such as SM8750, for whose NPU each TFLite file of the accelerator npu is compiled as well; "
            "the compiled files lie beside it. Needs `pip install 'mixnet_tf[npu]'`, and Linux on x86-64.",
        ),
    ] = None

    def check(self) -> "ExportOptions":
        """Checks every field, and returns the options.

        Raises:
            ValueError: For a value out of its range, float parts without the format int8, thresholds of a suppression
                that no file has, options that are for a CPU or an NPU without the accelerator, or chips that this
                machine cannot compile for.
        """
        check(self)
        if self.int8_float_parts and "int8" not in self.formats:
            raise InputError(f"int8_float_parts goes with the format int8; received formats {list(self.formats)}.")
        if CPU not in self.accelerator:
            defaults = ExportOptions._field_defaults
            for name in ("large_kernels", "int8_float_parts"):
                if getattr(self, name) != defaults[name]:
                    raise InputError(f"{name} is for files of the accelerator cpu; received {list(self.accelerator)}.")
        if NMS not in map(self.postprocess_for, self.accelerator):
            for name in ("score_threshold", "iou_threshold"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"{name} is for a detector's file that suppresses boxes; leave it out, or take the postprocess "
                        f"nms and the accelerator cpu. Received {self.postprocess!r} and {list(self.accelerator)}."
                    )
        if self.soc_models is not None:
            if NPU not in self.accelerator:
                raise InputError(
                    f"soc_models: files for an NPU are compiled; add npu to the accelerator {list(self.accelerator)}."
                )
            if not set(self.formats) & set(quantize.TFLITE_FORMATS) or not self.batch_size:
                raise InputError(
                    "soc_models: only TFLite files with a batch_size from 1 are compiled; received formats "
                    f"{list(self.formats)} and batch_size {self.batch_size}."
                )
            ahead_of_time.check(self.soc_models)
        return self

    def postprocess_for(self, accelerator: str) -> str:
        """The postprocessing of a detector's files for an accelerator, one of `POSTPROCESSES`."""
        return self.postprocess or (NMS if accelerator == CPU else BOXES)

    @property
    def calibrates(self) -> bool:
        """Whether a format needs calibration images."""
        return bool(set(self.formats) & set(quantize.NEEDS_CALIBRATION))
