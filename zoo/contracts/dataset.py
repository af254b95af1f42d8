"""The contract of datasets: streams of samples for training, calibration and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zoo.contracts.contract_version import CONTRACT_VERSION

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts.architecture import Architecture

    FloatArray = npt.NDArray[np.float32]
    TargetArray = npt.NDArray[Any]


#: The size of a crop in pixels of the input tensor: the side of a square one, or (height, width).
CropSize = int | tuple[int, int]


def sides_of(size: CropSize) -> tuple[int, int]:
    """Return the height and the width of a crop."""
    return (size, size) if isinstance(size, int) else size


def crop_size(height: int, width: int) -> CropSize:
    """Return the size of a crop as datasets expect it: one number for a square."""
    return height if height == width else (height, width)


@dataclass(frozen=True)
class Sample:
    """One image to train or evaluate on.

    Attributes:
        name: Name for reports.
        scene: What splits keep together: all samples of a scene are in one split.
        inputs: float32 (C, H, W), the input of the network.
        target: What the network should output, or None for unlabelled data. Images and masks: float32 (channels,
            scale*H, scale*W) in [0, 1]; for a network that answers in camera colours in those, on their curve. A
            class for each pixel: int64 (scale*H, scale*W), 255 where none counts. A class of the image: int64 of no
            dimension. Boxes: float32 (n, 5), a row for each: x0, y0, x1, y1 in input pixels, and the class.
        to_srgb: float32 (3, 3), from the white-balanced colours of the sample's camera to linear sRGB; None for
            data that have none.
    """

    name: str
    scene: str
    inputs: FloatArray
    target: TargetArray | None
    to_srgb: FloatArray | None = None


Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class SampleFiles:
    """The files that a sample is made of, for `zoo data`.

    Attributes:
        name: Of the sample, as in :attr:`Sample.name`.
        split: The split it is in.
        images: Image files, the input first.
        labels: Names or numbers of its classes.
    """

    name: str
    split: Split
    images: tuple[Path, ...]
    labels: tuple[str, ...] = ()


class Dataset:
    """A stream of samples; memory does not grow with their number.

    Config is a frozen dataclass like a technique's (``--data 'darkroom(photos=DIR)'``).
    """

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type]
    #: Tasks of the architectures that can use it; "any" for images without labels, which every task can use.
    tasks: ClassVar[frozenset[str]]
    #: Whether the `size` of :meth:`crops` and :meth:`calibration` may be (height, width). Otherwise it is the side of a
    #: square, and networks that are trained on anything else cannot use the data.
    rectangular: ClassVar[bool] = False

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def scenes(self, split: Split) -> Sequence[str]:
        """Return the names of the scenes of a split; deterministic, and disjoint between splits."""
        raise NotImplementedError

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        """Yield training crops of a size, endless and reproducible.

        Args:
            architecture: The network that the crops are for.
            size: Of a crop, in pixels of the input tensor: the side of a square, or (height, width).
            seed: Crop number k depends only on (seed, k).
            start: Number of the first crop.
        """
        raise NotImplementedError

    def calibration(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        """Yield what ranges are chosen and layers are fitted on: training data, endless and reproducible.

        By default these are the training crops. Datasets that distort those yield undistorted ones here, as
        evaluation sees them, and those of a size of their own may ignore `size`. Arguments as in :meth:`crops`.
        """
        return self.crops(architecture, size, seed, start)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        """Yield the whole frames of a split, each made on request; deterministic."""
        raise NotImplementedError

    def identity(self) -> str:
        """Return a string that changes when the data does; part of the recipe's fingerprint."""
        raise NotImplementedError

    def class_names(self) -> Sequence[str]:
        """Return the names of the classes by their index, empty if there are none; artifacts keep them."""
        return ()

    def check(self, architecture: Architecture) -> None:
        """Refuse, before any long work, data that cannot serve a network.

        Raises:
            ZooError: The data does not suit the network.
        """

    def notes(self) -> Sequence[str]:
        """Return what a user should know before using the data, such as files that are left out."""
        return ()

    def files(self) -> Sequence[SampleFiles]:
        """Return the files behind all samples; empty if samples are not made of image files."""
        return ()
