"""The flags that name a network or a model, and the model that they describe."""

from absl import flags

from mixnet_tf.commands.settings_flags import define_path, flag_values
from mixnet_tf.networks import INPUTS, VARIANTS, is_network_file, parse_kernels
from mixnet_tf.saved_models import Opened, open_model

WEIGHTS_HELP = (
    "A .keras or .weights.h5 file, an official checkpoint, timm's .safetensors or .npz, hf://ORG/NAME, or imagenet."
)


def define_network_flags(default: str | None, text: str) -> None:
    """The flags that name a network.

    Args:
        default: The network's name where none is given; None: none.
        text: What the network is for, the beginning of the help.
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
    """The kernel sizes that --kernels names; None where it is not given."""
    text = flags.FLAGS.kernels
    return None if text is None else parse_kernels(text)


def define_model_flags() -> None:
    """The flags that say which model to evaluate or export."""
    define_path("model_dir", None, "A training run: its best model, else its final one, else its newest.")
    define_path("weights", None, WEIGHTS_HELP)
    define_network_flags(None, "The network, where --weights holds weights alone")
    flags.DEFINE_integer(
        "num_label_classes", None, "Its number of classes; by default 1000, or the network file's.", lower_bound=1
    )
    flags.DEFINE_integer("image_size", None, "Its pixels a side; by default 224 or the file's.", lower_bound=1)
    flags.DEFINE_enum(
        "input",
        None,
        INPUTS,
        "What it takes: RGB from 0 to 255, or those normalized, which Preprocessing is put in front for; by default as "
        "its layers show, else pixels.",
    )


def open_model_from_flags() -> Opened:
    """The model that the model flags say; raises what `open_model` raises."""
    names = ("weights", "model_dir", "model_name", "num_label_classes", "image_size", "input")
    return open_model(**flag_values(names), kernel_size=kernels_from_flags())
