"""The data of a Python program as a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, Split
from zoo.data.batches import IndexedPairs, StreamedPairs, read_data
from zoo.data.random_crops import shuffled
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.data.batches import Pair

#: Of samples that can be read by number, each of this many is held out where no test data is passed.
_HELD_OUT = 5
#: Samples that the identity is computed from.
_IDENTIFYING = 64


@dataclass(frozen=True)
class NoOptions:
    """The data of a program has no options."""


class ProgramData(Dataset):
    """Batches, loaders, datasets or arrays of a program; see :func:`zoo.data.batches.read_data`.

    Where samples can be read by number and no test data is passed, one of five is held out. Otherwise the network is
    measured on what it was trained on, which :meth:`notes` says.

    Args:
        data: For training and calibration.
        test: What files are measured on; None for a part of `data`.
    """

    id: ClassVar[str] = "program"
    summary: ClassVar[str] = "data passed from Python"
    Config: ClassVar[type] = NoOptions
    tasks: ClassVar[frozenset[str]] = frozenset({"any"})
    rectangular: ClassVar[bool] = True

    def __init__(self, data: Any, test: Any = None) -> None:
        super().__init__()
        self._train = read_data(data)
        self._test = self._train if test is None else read_data(test)
        self._numbers: dict[Split, Sequence[int]] = {}
        if isinstance(self._train, IndexedPairs):
            every = range(self._train.count)
            held = (
                every[_HELD_OUT - 1 :: _HELD_OUT]
                if test is None and len(every) >= 2 * _HELD_OUT
                else range(0)
            )
            self._numbers["train"] = [number for number in every if number not in held]
            self._numbers["test"] = list(held) or list(every)
        if test is not None and isinstance(self._test, IndexedPairs):
            self._numbers["test"] = range(self._test.count)
        self._same = test is None and self._numbers.get("test", ()) == self._numbers.get("train", ())
        self.first = self._first()
        self._id = self._identified()

    def _first(self) -> Pair:
        first = next(self._passed(self._train, "train"), None)
        if first is None:
            raise InputError(
                "data holds no samples.", hint="An iterator that was used up before yields nothing."
            )
        return first

    def _passed(self, pairs: IndexedPairs | StreamedPairs, split: Split) -> Iterator[Pair]:
        """Yield the samples of a split once, in order."""
        if isinstance(pairs, StreamedPairs):
            yield from pairs
        else:
            yield from (pairs.read(number) for number in self._numbers[split])

    def scenes(self, split: Split) -> Sequence[str]:
        if split == "val":
            return ()
        return [f"data of the program ({'train' if self._same else split})"]

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        if isinstance(self._train, IndexedPairs):
            numbers = self._numbers["train"]
            for position in shuffled(len(numbers), seed, start):
                yield self._checked(self._train.read(numbers[position]), f"train/{numbers[position]}")
            return
        passes = (pair for _ in count() for pair in self._some(self._train))
        for number, pair in enumerate(islice(passes, start, None), start):
            yield self._checked(pair, f"train/{number}")

    def _some(self, pairs: StreamedPairs) -> Iterator[Pair]:
        found = False
        for pair in pairs:
            found = True
            yield pair
        if not found:
            raise InputError(
                "data yields nothing when it is run through again.",
                hint="Pass a DataLoader, or a function without arguments that returns a new iterator.",
            )

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        pairs = self._train if split == "train" else self._test
        numbers = self._numbers[split] if isinstance(pairs, IndexedPairs) else count()
        for number, pair in zip(numbers, self._passed(pairs, split), strict=False):
            yield self._checked(pair, f"{split}/{number}")

    def _checked(self, pair: Pair, name: str) -> Sample:
        inputs, target = pair
        if inputs.shape != self.first[0].shape:
            raise InputError(
                f"Sample {name} is {inputs.shape}, unlike the first, {self.first[0].shape}.",
                hint="All samples must have one size: crop or resize them.",
            )
        if not np.isfinite(inputs).all():
            raise InputError(f"Sample {name} contains NaN or infinite values.")
        return Sample(name, self.scenes("train")[0], inputs, target)

    def check(self, architecture: Architecture) -> None:
        spec = architecture.input
        shape, expected = self.first[0].shape, (spec.channels, *spec.example)
        fits = shape[:1] == expected[:1] and len(shape) == 3
        if fits and (spec.fixed_size or not architecture.output.dense):
            fits = shape == expected
        if not fits:
            raise InputError(
                f"data holds inputs of {shape}, but the example is {expected}.",
                hint="Pass an example like the data: example=next(iter(loader))[0]",
            )

    def notes(self) -> Sequence[str]:
        if self._same:
            return (
                "The files are measured on the data that the network is trained or calibrated on, which flatters: pass "
                "test=... to measure on other data.",
            )
        return ()

    def identity(self) -> str:
        return self._id

    def _identified(self) -> str:
        """The first samples, unless they differ each time they are read, as augmented ones do."""
        digest = hashlib.sha256()
        same = True
        for (inputs, target), (again, _) in zip(
            islice(self._passed(self._train, "train"), _IDENTIFYING),
            islice(self._passed(self._train, "train"), _IDENTIFYING),
            strict=False,
        ):
            same = same and np.array_equal(inputs, again)
            digest.update(inputs.tobytes() + (b"" if target is None else target.tobytes()))
        size = self._train.count if isinstance(self._train, IndexedPairs) else "stream"
        return f"program/1({size};{self.first[0].shape};{digest.hexdigest()[:32] if same else 'varying'})"
