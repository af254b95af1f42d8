"""The data of a Python program as a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, Split
from zoo.data.batches import IndexedPairs, StreamedPairs, parts_of, read_data
from zoo.data.label_checks import Meaning, as_class
from zoo.data.packed_samples import only_input, pack_sample
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
        names: Of the inputs in batches that are dictionaries, where they are several and that is known.
    """

    id: ClassVar[str] = "program"
    summary: ClassVar[str] = "data passed from Python"
    Config: ClassVar[type] = NoOptions
    tasks: ClassVar[frozenset[str]] = frozenset({"any"})
    rectangular: ClassVar[bool] = True

    def __init__(self, data: Any, test: Any = None, names: Sequence[str] = ()) -> None:
        super().__init__()
        self._train = read_data(data, names)
        self._test = self._train if test is None else read_data(test, names)
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

    def example(self) -> Any:
        """Return the inputs of the first sample as tensors, with a batch dimension; several by name or in a tuple."""
        import torch

        inputs = self.first[0]
        if not isinstance(inputs, Mapping):
            return torch.from_numpy(inputs[None])
        tensors = {name: torch.from_numpy(np.asarray(array)[None]) for name, array in inputs.items()}
        return tuple(tensors.values()) if set(tensors) == set(map(str, range(len(tensors)))) else tensors

    def _first(self) -> Pair:
        if isinstance(self._train, IndexedPairs):
            first = next(map(self._train.read, self._numbers["train"]), None)
        else:
            first = next(iter(self._train), None)
        if first is None:
            raise InputError(
                "data holds no samples.", hint="An iterator that was used up before yields nothing."
            )
        return first

    def _passed(self, pairs: IndexedPairs | StreamedPairs, split: Split) -> Iterator[tuple[int, Pair]]:
        """Yield the samples of a split once, with their numbers; by number in an order whose beginning tells of all."""
        if isinstance(pairs, StreamedPairs):
            yield from enumerate(pairs)
            return
        numbers = self._numbers[split]
        for position in islice(shuffled(len(numbers), 0), len(numbers)):
            yield numbers[position], pairs.read(numbers[position])

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
                name = f"train/{numbers[position]}"
                yield self._checked(self._train.read(numbers[position]), name, architecture)
            return
        passes = (pair for _ in count() for pair in self._some(self._train))
        for number, pair in enumerate(islice(passes, start, None), start):
            yield self._checked(pair, f"train/{number}", architecture)

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
        for number, pair in self._passed(pairs, split):
            yield self._checked(pair, f"{split}/{number}", architecture)

    def _checked(self, pair: Pair, name: str, architecture: Architecture) -> Sample:
        given, target = pair
        if target is not None and _is_label(target, architecture):
            target = as_class(target, architecture, f"Sample {name}")
        if architecture.input.parts:
            inputs = pack_sample(architecture, given, f"Sample {name}")
            return Sample(name, self.scenes("train")[0], inputs, target)
        inputs = only_input(given, architecture, "data")
        first = only_input(self.first[0], architecture, "data").shape
        if inputs.shape != first:
            raise InputError(
                f"Sample {name} is {inputs.shape}, unlike the first, {first}.",
                hint="All samples must have one size: crop or resize them.",
            )
        if not np.isfinite(inputs).all():
            raise InputError(f"Sample {name} contains NaN or infinite values.")
        return Sample(name, self.scenes("train")[0], inputs, target)

    def check(self, architecture: Architecture) -> None:
        self._check_first(architecture)
        meaning = Meaning(architecture)
        own_task = not isinstance(
            architecture.task, str
        )  # a loss of the program's own may mean anything by targets
        splits: dict[Split, IndexedPairs | StreamedPairs] = {"train": self._train}
        if not self._same:
            splits["test"] = self._test
        for split, pairs in splits.items():
            looked_at = 0
            for sample in islice(self.frames(architecture, split), _IDENTIFYING):
                looked_at += 1
                if sample.target is not None and (_is_label(sample.target, architecture) or not own_task):
                    meaning.add(sample)
            if isinstance(pairs, StreamedPairs) and looked_at == _IDENTIFYING:
                meaning.is_beginning = True
        meaning.refuse(hint="Check the targets that data yields.")

    def _check_first(self, architecture: Architecture) -> None:
        spec = architecture.input
        if spec.parts:
            pack_sample(architecture, self.first[0], "The first sample of data")
            return
        shape = only_input(self.first[0], architecture, "data").shape
        expected = (spec.channels, *spec.example)
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

    def _shapes(self) -> str:
        found = parts_of(self.first[0])
        return ";".join(f"{name}{array.shape}" for name, array in found.items())

    def _identified(self) -> str:
        """The first samples, unless they differ each time they are read, as augmented ones do."""
        digest = hashlib.sha256()
        same = True
        for (_, (inputs, target)), (_, (again, _)) in zip(
            islice(self._passed(self._train, "train"), _IDENTIFYING),
            islice(self._passed(self._train, "train"), _IDENTIFYING),
            strict=False,
        ):
            others = parts_of(again)
            for part, array in parts_of(inputs).items():
                same = same and part in others and np.array_equal(array, others[part])
                digest.update(array.tobytes())
            digest.update(b"" if target is None else target.tobytes())
        size = self._train.count if isinstance(self._train, IndexedPairs) else "stream"
        return f"program/1({size};{self._shapes()};{digest.hexdigest()[:32] if same else 'varying'})"


def _is_label(target: Any, architecture: Architecture) -> bool:
    """Whether a target is the number of a class, not what a loss of the program's own is trained on."""
    return bool(architecture.output.kind == "logits" and target.ndim == 0 and target.dtype.kind in "ui")
