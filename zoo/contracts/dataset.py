"""The contract of datasets: streams of samples for training, calibration and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zoo.contracts.contract_version import CONTRACT_VERSION

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts.architecture import Architecture

    FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """One image to train or evaluate on.

    Attributes:
        name: Name for reports.
        scene: What splits keep together: all samples of a scene are in one split.
        inputs: float32 (C, H, W), the input of the network.
        target: float32 (channels, scale*H, scale*W) in [0, 1], or None for unlabelled data.
    """

    name: str
    scene: str
    inputs: FloatArray
    target: FloatArray | None


Split = Literal["train", "val", "test"]


class Dataset:
    """A stream of samples; memory does not grow with their number.

    Config is a frozen dataclass like a technique's (``--data 'darkroom(photos=DIR)'``).
    """

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type]
    #: Tasks of the architectures that can use it.
    tasks: ClassVar[frozenset[str]]

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def scenes(self, split: Split) -> Sequence[str]:
        """Return the names of the scenes of a split; deterministic, and disjoint between splits."""
        raise NotImplementedError

    def crops(self, architecture: Architecture, size: int, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield training crops of `size` x `size` input-tensor pixels, endless and reproducible.

        Args:
            architecture: The network that the crops are for.
            size: Side of a crop, in pixels of the input tensor.
            seed: Crop number k depends only on (seed, k).
            start: Number of the first crop.
        """
        raise NotImplementedError

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        """Yield the whole frames of a split, each made on request; deterministic."""
        raise NotImplementedError

    def identity(self) -> str:
        """Return a string that changes when the data does; part of the recipe's fingerprint."""
        raise NotImplementedError
