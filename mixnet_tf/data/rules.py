"""The rules by which data is read, by version; a run keeps the version that it began with."""

import numbers
from typing import Any, NamedTuple

from mixnet_tf.data.hashed_splits import DEFAULT_FRACTION
from mixnet_tf.errors import InputError
from mixnet_tf.settings import Setting

FILE_DATASETS = ("folder", "list")  # of image files, as people have them
# Options of every command that reads such a dataset.
LIST = Setting(
    "list: CSV or JSON Lines file with the columns path, label and, if wanted, split; by default the run's.",
    is_path=True,
)
VALIDATION_FRACTION = Setting(
    "folder and list, without splits: fraction of the images held out as the split validation; by default the run's, "
    f"or {DEFAULT_FRACTION:g}.",
    above=0,
    below=1,
)
_ANY = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp")


class Rules(NamedTuple):
    """The rules by which files are found and images decoded: those of a version, and whether images are turned.

    Attributes:
        version: Number of the version.
        class_endings: File endings of images in a class folder.
        endings: File endings of images in a folder without classes.
        leaves_out_litter: Whether names that begin with a dot, files of macOS, Windows and Jupyter, and folders of runs
            are left out. If not, they are classes and images like any other.
        every_split_counts: Whether the classes of a folder dataset's split are those of all splits, or only its own.
        shuffles_files: Whether all files of a folder dataset are shuffled, or only their contents in a buffer.
        finds_held_out_by_shard: Whether an image in a shard is held out by the shard's base name and the record's
            number alone, or also by the name of the shard's folder.
        applies_palettes: Whether a BMP file of up to 8 bits per pixel is read with its palette, or its indices as
            gray values.
        finds_flat_folders: Whether a folder dataset may have class folders in place of splits.
        exif: Whether a JPEG is turned as its EXIF orientation says; a version decides nothing about it.
    """

    version: int
    class_endings: tuple[str, ...]
    endings: tuple[str, ...]
    leaves_out_litter: bool
    every_split_counts: bool
    shuffles_files: bool
    finds_held_out_by_shard: bool
    applies_palettes: bool
    finds_flat_folders: bool
    exif: bool = False


_VERSIONS = (
    Rules(  # of releases 0.1.0 and 0.2.0
        version=0,
        class_endings=(".jpg", ".jpeg", ".png"),
        endings=(".jpg", ".jpeg", ".png", ".bmp", ".gif"),
        leaves_out_litter=False,
        every_split_counts=True,
        shuffles_files=False,
        finds_held_out_by_shard=False,
        applies_palettes=False,
        finds_flat_folders=False,
    ),
    Rules(  # of release 0.3.0
        version=1,
        class_endings=_ANY,
        endings=_ANY,
        leaves_out_litter=True,
        every_split_counts=False,
        shuffles_files=True,
        finds_held_out_by_shard=True,
        applies_palettes=True,
        finds_flat_folders=True,
    ),
)
NEWEST = _VERSIONS[-1]
UPRIGHT = NEWEST._replace(exif=True)  # for image files of which no run says how they are read
DATA_VERSION = NEWEST.version


def rules_of(data_version: int, exif: bool = False) -> Rules:
    """The rules of a version, for images that are turned by EXIF or not.

    Raises:
        ValueError: If the version is unknown.
    """
    if isinstance(data_version, bool) or not isinstance(data_version, int) or not 0 <= data_version <= DATA_VERSION:
        raise InputError(
            f"data_version: expected a whole number from 0 to {DATA_VERSION}, received {data_version!r}. A larger one "
            "was written by a newer mixnet_tf; install that version."
        )
    return _VERSIONS[data_version]._replace(exif=exif)


class Reading(NamedTuple):
    """How a dataset is read, beyond its name and folder; a run stores it in its config.json.

    Attributes:
        data_version: Version of the `Rules`.
        exif: Whether a JPEG is turned as its EXIF orientation says; None: for "folder" and "list", unless their classes
            are ImageNet's WordNet ids.
        validation_fraction: Fraction of the images that are the split "validation", for a folder or a list without
            splits; an error if the dataset has splits. None: `default_fraction`.
        list: "list": path of the file that lists the images.
        num_label_classes: "tfrecord": number of classes; None: 1000.
        default_fraction: The fraction where none is asked for; a dataset with splits ignores it.
    """

    data_version: int = DATA_VERSION
    exif: bool | None = None
    validation_fraction: float | None = None
    list: str | None = None
    num_label_classes: int | None = None
    default_fraction: float = DEFAULT_FRACTION

    def rules(self, exif: bool = False) -> Rules:
        """The `Rules`; `exif` decides about turning images if the reading does not.

        Raises:
            ValueError: If the version is unknown.
        """
        return rules_of(self.data_version, exif if self.exif is None else self.exif)

    @property
    def fraction(self) -> float:
        """The fraction of the images that are the split "validation", if the dataset has no splits."""
        return self.default_fraction if self.validation_fraction is None else self.validation_fraction

    def given(self, **options: Any) -> "Reading":
        """The reading with the options that a person gave; those that are None are left unchanged."""
        return self._replace(**{name: value for name, value in options.items() if value is not None})

    def check(self, dataset: str) -> "Reading":
        """Checks that what is asked for goes with a dataset, and returns the reading.

        Raises:
            ValueError: If the version is unknown, the fraction out of range, or an option is for other datasets.
        """
        self.rules()
        if not isinstance(self.fraction, numbers.Real) or not 0 < self.fraction < 1:
            raise InputError(f"validation_fraction: expected a number above 0 and below 1, received {self.fraction!r}.")
        if self.validation_fraction is not None and dataset not in FILE_DATASETS:
            raise InputError(
                f"validation_fraction={self.validation_fraction:g} goes with --dataset=folder and --dataset=list; "
                f"{dataset!r} has splits of its own."
            )
        if self.list is not None and dataset != "list":
            raise InputError(f"list={self.list!r} goes with --dataset=list; the dataset is {dataset!r}.")
        return self
