"""The published sets of ImageNet weights: where they are, what is known of the files, and how images are prepared."""

from typing import NamedTuple

from mixnet_tf.errors import InputError
from mixnet_tf.networks import GOOGLES, TIMMS, VARIANTS, Resizing
from mixnet_tf.weights.google import ARCHIVES, BASE_URL

_PAPER = "arXiv:1907.09595"
_TIMM = "timm 1.0.31's table"


class WeightsRecord(NamedTuple):
    """A published set of weights; what was not published, or is not known here, is None.

    Attributes:
        name: Publisher and name.
        model_name: The network, one of `list_models()`.
        weights: What loads them: the value of `weights` in `build_model`.
        source: Address of the file, or of its repository.
        revision: Commit of the repository that the facts are of.
        size: Size of the file, bytes.
        sha256: SHA-256 of the file, in hexadecimal digits.
        top_1: Top-1 accuracy on ImageNet's validation images, per cent; not measured here.
        reported_by: Who reports it.
        license: License of the weights, by its SPDX identifier.
        image_size: Height and width of the images in evaluation, pixels.
        crop_padding: As in `networks.Resizing`.
        crop_fraction: As in `networks.Resizing`.
        interpolation: As in `networks.Resizing`.
        mean: Mean of the colors that is subtracted, of [0, 1].
        deviation: Standard deviation that the colors are divided by, of [0, 1].
    """

    name: str
    model_name: str
    weights: str
    source: str
    revision: str | None
    size: int | None
    sha256: str | None
    top_1: float | None
    reported_by: str | None
    license: str | None
    crop_padding: int | None
    crop_fraction: float | None
    interpolation: str
    image_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def resizing(self) -> Resizing:
        """How its images are cropped and resized."""
        return Resizing(self.crop_padding, self.crop_fraction, self.interpolation)


def _googles(model_name, top_1):
    known = ARCHIVES[model_name]
    return WeightsRecord(
        f"google/{model_name}",
        model_name,
        "imagenet",
        f"{BASE_URL}/{model_name}.tar.gz",
        None,
        known.size,
        known.sha256,
        top_1,
        _PAPER,
        None,
        *GOOGLES,
    )


def _timms(model_name, repository, revision, top_1, sha256=None):
    return WeightsRecord(
        f"timm/{repository}",
        model_name,
        f"hf://timm/{repository}",
        f"https://huggingface.co/timm/{repository}",
        revision,
        None,
        sha256,
        top_1,
        _TIMM,
        "Apache-2.0",
        *TIMMS,
    )


# Sources: tensorflow/tpu, models/official/mnasnet/mixnet/README.md; the repositories' pages on the hub, which round the
# sizes and of which only XL's shows the SHA-256.
RECORDS = (
    _googles("mixnet-s", 75.8),
    _googles("mixnet-m", 77.0),
    _googles("mixnet-l", 78.9),
    _timms("mixnet-s", "mixnet_s.ft_in1k", "abc292d6bc4d1ed04886f75c12b0de10f4f2204d", 75.99),
    _timms("mixnet-m", "mixnet_m.ft_in1k", "87368a6", 77.26),
    _timms("mixnet-l", "mixnet_l.ft_in1k", "4489c22a8111a2db30186126c00564891e192050", 78.98),
    _timms(
        "mixnet-xl",
        "mixnet_xl.ra_in1k",
        "6a8855ac199bcfda7d5516fd4311f318be1a0a11",
        80.48,
        "30d96fe91fef1cd6fe86eaaabd1a1492ff26ebf17f8799429993bc63ea063449",
    ),
)


def list_weights(model_name: str | None = None) -> list[WeightsRecord]:
    """The published sets of ImageNet weights.

    Args:
        model_name: One of `list_models()`; None: of every network.

    Returns:
        A list of `WeightsRecord`, the set that `weights="imagenet"` means first.

    Raises:
        ValueError: If there is no such network.

    Example:
        >>> import mixnet_tf
        >>> [(each.name, each.top_1) for each in mixnet_tf.list_weights("mixnet-s")]
        [('google/mixnet-s', 75.8), ('timm/mixnet_s.ft_in1k', 75.99)]
        >>> mixnet_tf.list_weights("mixnet-xl")[0].interpolation
        'bicubic'
    """
    if model_name is not None and model_name not in list(VARIANTS):
        raise InputError(f"model_name: expected one of {list(VARIANTS)}, received {model_name!r}.")
    return [each for each in RECORDS if model_name in (None, each.model_name)]
