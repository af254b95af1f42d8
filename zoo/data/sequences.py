"""Samples that are kept one after another, by number: arrays in files, and sequences of a user's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, Split, sides_of
from zoo.data.label_checks import Meaning, as_class, check_boxes, check_pixel_classes
from zoo.data.packed_samples import only_input, pack_sample
from zoo.data.random_crops import random_window, shuffled
from zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt

    #: The input of a sample as it is stored, or several by name.
    Stored: TypeAlias = npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]]

#: Samples of each split that are read before any work.
_LOOKED_AT = 256


class SequenceDataset(Dataset):
    """Samples by number, in splits. A scene is a sample, named ``train/0`` after its split and number.

    A subclass sets :attr:`numbers`, and implements :meth:`read`.
    """

    rectangular = True
    #: The samples of each split.
    numbers: dict[Split, Sequence[int]]

    @abstractmethod
    def read(self, split: Split, number: int) -> tuple[Stored, npt.NDArray[Any] | None]:
        """Return the input, or several by name, and the target of a sample, as they are stored."""

    def scenes(self, split: Split) -> Sequence[str]:
        return [f"{split}/{number}" for number in self.numbers[split]]

    def looked_at(self, split: Split) -> Sequence[int]:
        """Return the numbers of the samples that are read before any work, some of each part of the split."""
        numbers = self.numbers[split]
        return numbers[:: -(-len(numbers) // _LOOKED_AT)] if numbers else ()

    def check(self, architecture: Architecture) -> None:
        """Read samples of each split.

        Raises:
            InputError: A sample is not what the network takes, its target not what it gives, or all have one class.
            UsageError: Samples have another size than the network's example.
        """
        meaning = Meaning(architecture)
        for split in self.numbers:
            for number in self.looked_at(split):
                sample = self._sample(split, number, architecture)
                if not architecture.output.dense and sample.inputs.shape[1:] != architecture.input.example:
                    raise UsageError(
                        f"{self.id}: {sample.name} has {_times(sample.inputs.shape[1:])} pixels; {architecture.id} "
                        f"expects {_times(architecture.input.example)}.",
                        hint="Resize the samples, or use images:  --data 'folder(root=DIR)'",
                    )
                meaning.add(sample)
        meaning.refuse(hint="Check the labels.")

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        numbers = self.numbers["train"]
        if not numbers:
            raise InputError(f"{self.id} has no samples for training.", hint="Hold fewer out: test_share.")
        scale, multiple = max(1, architecture.output.scale), architecture.input.multiple_of
        for count, position in enumerate(shuffled(len(numbers), seed, start), start):
            sample = self._sample("train", numbers[position], architecture)
            sides = sides_of(size)
            if architecture.output.dense and sample.inputs.shape[1:] != sides:
                rng = np.random.default_rng((seed, 2, count))
                sample = random_window(sample, size, scale, multiple, count, rng)
            elif any(side > stored for side, stored in zip(sides, sample.inputs.shape[1:], strict=True)):
                raise UsageError(
                    f"{self.id}: {sample.name} has {_times(sample.inputs.shape[1:])} pixels, fewer than "
                    f"{_times(sides)}.",
                    hint="Omit --crop.",
                )
            inputs = _middle(sample.inputs, sides)
            yield Sample(f"{sample.scene}#{count}", sample.scene, inputs, sample.target)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        for number in self.numbers[split]:
            yield self._sample(split, number, architecture)

    def _sample(self, split: Split, number: int, architecture: Architecture) -> Sample:
        name = f"{split}/{number}"
        stored, wanted = self.read(split, number)
        if architecture.input.parts:
            inputs = pack_sample(architecture, stored, f"{self.id}: {name}")
        else:
            array = only_input(stored, architecture, f"{self.id}")
            inputs = self._as_images(array, architecture.input.channels, name)
        target = None if wanted is None else self._as_target(wanted, inputs, architecture, name)
        return Sample(name, name, inputs, target)

    def _as_images(self, stored: npt.NDArray[Any], channels: int, name: str) -> npt.NDArray[np.float32]:
        """Return (C, H, W) in [0, 1] from (C, H, W), (H, W, C) or (H, W), of bytes or of floats in [0, 1]."""
        array = stored[None] if stored.ndim == 2 and channels == 1 else stored
        if array.ndim == 3 and array.shape[0] != channels and array.shape[2] == channels:
            array = array.transpose(2, 0, 1)
        if array.ndim != 3 or array.shape[0] != channels:
            raise InputError(
                f"{self.id}: {name} has the shape {_times(stored.shape)}, which is not an image of "
                f"{channels} channels.",
                hint="Shapes are CxHxW or HxWxC.",
            )
        if array.dtype in (np.uint8, np.uint16):
            return np.ascontiguousarray(array, dtype=np.float32) / np.float32(np.iinfo(array.dtype).max)
        values = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"{self.id}: {name} contains NaN or infinite values.", hint="Repair the data.")
        if values.size and (values.min() < 0 or values.max() > 1):
            raise InputError(
                f"{self.id}: {name} has values from {values.min():g} to {values.max():g}, not in 0 to 1.",
                hint="Undo the normalization; state mean and std as options of the network instead.",
            )
        return values

    def _as_target(
        self, stored: npt.NDArray[Any], inputs: npt.NDArray[np.float32], architecture: Architecture, name: str
    ) -> Any:
        """Return the target in the form of :class:`zoo.contracts.Sample`."""
        gives = architecture.output
        what = f"{self.id}: {name}"
        if gives.kind == "logits":
            return as_class(stored, architecture, what)
        if gives.kind == "boxes":
            return check_boxes(stored, architecture, what)
        if not architecture.output.dense:
            return np.ascontiguousarray(stored, dtype=np.float32)
        height, width = (gives.scale * side for side in inputs.shape[1:])
        if gives.kind not in ("rgb", "gray", "mask"):
            if stored.shape != (height, width) or stored.dtype.kind not in "ui":
                raise InputError(
                    f"{self.id}: the target of {name} is {stored.dtype} {_times(stored.shape)}, not a whole number "
                    f"for each of {_times((height, width))} pixels.",
                    hint="A target is the class of each pixel, (H, W).",
                )
            check_pixel_classes(stored, architecture, f"{self.id}: the target of {name}")
            return np.ascontiguousarray(stored, dtype=np.int64)
        target = self._as_images(stored, gives.channels, f"the target of {name}")
        if target.shape[1:] != (height, width):
            raise InputError(
                f"{self.id}: the target of {name} has {_times(target.shape[1:])} pixels; {architecture.id} "
                f"outputs {_times((height, width))} for its input.",
                hint="Inputs and targets must fit: resize them, or leave the sample out.",
            )
        return target


def _middle(inputs: npt.NDArray[np.float32], sides: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Cut (C, height, width) out of the middle of (C, H, W)."""
    top, left = ((stored - side) // 2 for stored, side in zip(inputs.shape[1:], sides, strict=True))
    return np.ascontiguousarray(inputs[:, top : top + sides[0], left : left + sides[1]])


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one value"
