"""What a dataset is: a stream of samples to train, calibrate and evaluate on."""

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
    """One picture to train or evaluate on.

    name, scene: for reports and for splitting; all samples of a scene fall in one split.
    inputs:  float32 (C, H, W), as the network takes them.
    target:  float32 (channels, scale*H, scale*W) in [0, 1], or None for unlabelled data.
    """

    name: str
    scene: str
    inputs: FloatArray
    target: FloatArray | None


Split = Literal["train", "val", "test"]


class Dataset:
    """A stream of samples; memory does not grow with the number of them.

    Config is a frozen dataclass like a technique's (``--data 'darkroom(photos=DIR)'``).
    """

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type]
    #: tasks of the architectures that can use it
    tasks: ClassVar[frozenset[str]]

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def scenes(self, split: Split) -> Sequence[str]:
        """Names of the scenes of a split; deterministic, and disjoint between splits."""
        raise NotImplementedError

    def crops(self, architecture: Architecture, size: int, seed: int, start: int = 0) -> Iterator[Sample]:
        """An endless, reproducible stream of training crops of `size` x `size` input-tensor pixels.

        Crop number k depends on (seed, k) alone; `start` is the number of the first.
        """
        raise NotImplementedError

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        """Whole frames of a split, each made when asked for; deterministic."""
        raise NotImplementedError

    def identity(self) -> str:
        """A string that changes when the data does; part of the recipe's fingerprint."""
        raise NotImplementedError
