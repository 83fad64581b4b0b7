"""How a training run is carried out: the settings that are not part of its recipe."""

from typing import Annotated, NamedTuple

from mixnet_tf.data import LIST, VALIDATION_FRACTION, Reading
from mixnet_tf.networks import BATCH_NORM_FORM, DEPTHWISE_FORM, POINTWISE_FORM, Forms
from mixnet_tf.settings import Setting, documented
from mixnet_tf.training.distribution import STRATEGIES


@documented
class RunOptions(NamedTuple):
    """How a run is carried out, and on which data.

    The recipe decides what a run computes, with three exceptions. `strategy`, `jit_compile`, `deterministic` and the
    forms of layers change rounding. The number of replicas decides which dropout masks are drawn and, unless the recipe
    has `sync_batch_norm`, over how many images batch normalization computes its moments: `train_batch_size` divided by
    the replicas. The number of hosts decides the order of the images.
    """

    model_dir: Annotated[str, Setting("Folder of the run; the same command resumes it.", is_path=True)]
    data_dir: Annotated[str, Setting("Where the data is or, for tensorflow_datasets, is prepared.", is_path=True)]
    list: Annotated[str | None, LIST] = None
    train_split: Annotated[
        str | None, Setting("Split to train on, such as train[:80%] of tensorflow_datasets; by default train.")
    ] = None
    eval_split: Annotated[
        str | None,
        Setting(
            "Split to evaluate on, such as train[80%:] of tensorflow_datasets; by default the first of validation, "
            "test, val and eval."
        ),
    ] = None
    validation_fraction: Annotated[float | None, VALIDATION_FRACTION] = None
    exif: Annotated[
        bool | None,
        Setting(
            "Turn each JPEG as its EXIF orientation says; by default for folder and list, unless the classes are "
            "ImageNet's."
        ),
    ] = None
    num_label_classes: Annotated[
        int | None, Setting("tfrecord: number of classes, which labels count from 1; by default 1000.", least=1)
    ] = None
    num_train_images: Annotated[
        int | None, Setting("tfrecord: number of training images; by default ImageNet's, or counted.", least=1)
    ] = None
    num_eval_images: Annotated[
        int | None, Setting("tfrecord: number of evaluation images; by default ImageNet's, or counted.", least=1)
    ] = None
    allow_missing_shards: Annotated[
        bool, Setting("tfrecord: allow fewer than N shards, although their names end in -of-N.")
    ] = False
    eval_batch_size: Annotated[int, Setting("Images per evaluation step over all replicas.", least=1)] = 64
    eval_every: Annotated[
        float | None,
        Setting(
            "Epochs between evaluations of the averaged weights; 0: only after the last step; by default 1, or more if "
            "there are many evaluation images.",
            least=0,
        ),
    ] = None
    early_stopping: Annotated[
        int | None, Setting("End after this many evaluations without a better one; by default never.", least=1)
    ] = None
    strategy: Annotated[str, Setting("How the work is distributed over devices.", choices=STRATEGIES)] = "auto"
    tpu: Annotated[str | None, Setting("Name or address of a TPU; local for this machine's.")] = None
    steps_per_loop: Annotated[int, Setting("Steps between checks for signals and metrics.", least=1)] = 10
    checkpoint_steps: Annotated[
        int | None, Setting("Steps between checkpoints; by default one epoch, clamped to 100 to 2,500 steps.", least=1)
    ] = None
    use_cache: Annotated[bool, Setting("Keep the encoded images in memory.")] = False
    jit_compile: Annotated[bool, Setting("Compile the step with XLA (a TPU always does; slow on a CPU).")] = False
    pointwise_form: Annotated[str | None, POINTWISE_FORM] = None
    depthwise_form: Annotated[str | None, DEPTHWISE_FORM] = None
    batch_norm_form: Annotated[str | None, BATCH_NORM_FORM] = None
    deterministic: Annotated[bool, Setting("Equal runs give bit-equal results, at some cost of speed.")] = False
    allow_config_change: Annotated[bool, Setting("Resume in a model_dir of another configuration.")] = False

    def reading(self, before: Reading) -> Reading:
        """How the dataset is read: as before, where the options do not say otherwise."""
        return before.given(
            exif=self.exif,
            validation_fraction=self.validation_fraction,
            list=self.list,
            num_label_classes=self.num_label_classes,
        )

    def forms(self, before: Forms) -> Forms:
        """The forms in which layers compute in training: as before, where the options do not say otherwise."""
        given = {name: getattr(self, name) for name in Forms._fields}
        return before._replace(**{name: form for name, form in given.items() if form is not None})
