"""The flags that name a network or a model, and the model that they describe."""

from absl import flags

from mixnet_tf.commands.settings_flags import define, define_path, flag_values
from mixnet_tf.detection import is_detector
from mixnet_tf.errors import InputError
from mixnet_tf.networks import GOOGLES, INPUTS, VARIANTS, Resizing, is_network_file, parse_kernels
from mixnet_tf.saved_models import Opened, open_model

WEIGHTS_HELP = (
    "A .keras or .weights.h5 file, an official checkpoint, timm's .safetensors or .npz, hf://ORG/NAME, or imagenet."
)


def define_network_flags(default: str | None, text: str) -> None:
    """Defines the flags that name a network.

    Args:
        default: Default of --model_name; None: no default.
        text: The beginning of the help: what the network is for.
    """
    define_path("model_name", default, f"{text}: one of {', '.join(VARIANTS)}, or a network file, FILE.json.")
    flags.register_validator(
        "model_name",
        lambda name: name is None or name in VARIANTS or is_network_file(name),
        f"expected one of {list(VARIANTS)}, or the path of a network file that ends in .json",
    )
    flags.DEFINE_string(
        "kernels", None, "Kernel sizes for every depthwise convolution, such as 3.5.7; by default its own."
    )


def kernels_from_flags() -> tuple[int, ...] | None:
    """The kernel sizes of --kernels; None if the flag is not given."""
    text = flags.FLAGS.kernels
    return None if text is None else parse_kernels(text)


def define_model_flags() -> None:
    """Defines the flags of the model to evaluate or export."""
    define_path(
        "model_dir",
        None,
        "Folder of a training run; opens its best model, else its final model, else its newest checkpoint.",
    )
    define_path("weights", None, WEIGHTS_HELP)
    define_network_flags(None, "The network of --weights, unless they are a .keras file")
    flags.DEFINE_integer(
        "num_label_classes",
        None,
        "Number of classes of the network; by default 1000, or as in the network file.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "image_size",
        None,
        "Height and width of the input, pixels; by default 224, or the size of the .keras file.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "input",
        None,
        INPUTS,
        "Input of the model: pixels, RGB from 0 to 255, or normalized, for which Preprocessing is put in front; by "
        "default what its layers show, else pixels.",
    )
    define(Resizing, **dict.fromkeys(Resizing._fields))
    flags.DEFINE_bool(
        "exif",
        None,
        "Turn each JPEG as its EXIF orientation says; by default as the run does. Without a run, image files and the "
        "datasets folder and list are turned.",
    )


def open_model_from_flags() -> Opened:
    """Opens the model that the flags describe; raises what `open_model` raises."""
    names = ("weights", "model_dir", "model_name", "num_label_classes", "image_size", "input")
    resized = {name: value for name, value in flag_values(Resizing._fields).items() if value is not None}
    GOOGLES.given(flags.FLAGS.crop, **resized)  # before the model is opened, as they may contradict each other
    opened = open_model(**flag_values(names), kernel_size=kernels_from_flags())
    if resized and is_detector(opened.model):
        given = ", ".join(f"--{name}" for name in resized)
        raise InputError(
            f"{opened.source} is an object detector, which sees whole images, bilinear; leave out {given}."
        )
    return opened._replace(exif=flags.FLAGS.exif, resized=resized)
