"""`tensors`: arrays of inputs, and of targets if there are any, in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np

from zoo.contracts import Architecture, Split
from zoo.data.label_checks import refuse_untrained
from zoo.data.picture_files import listed
from zoo.data.sequences import SequenceDataset
from zoo.data.splits import held_out, interleaved
from zoo.errors import InputError, UsageError
from zoo.options import option
from zoo.storage.array_files import Rows, SeveralRows, open_arrays
from zoo.storage.atomic import sha256_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.data.sequences import Stored

#: What arrays are called where the options do not say: with splits, and without.
_SPLIT_NAMES: dict[Split, tuple[tuple[str, str], ...]] = {
    split: (
        (f"x_{split}", f"y_{split}"),
        (f"{split}_inputs", f"{split}_targets"),
        (f"{split}_images", f"{split}_labels"),
    )
    for split in get_args(Split)
}
#: Samples of an array: each is looked at one by one.
_MOST_SAMPLES = 1 << 22
_NAMES = (("inputs", "targets"), ("x", "y"), ("images", "labels"), ("input", "target"))


@dataclass(frozen=True)
class TensorsConfig:
    """Options of `tensors`."""

    file: str = option("", help="file of arrays, .npz or .safetensors")
    inputs: str = option(
        "", help="name of the array of inputs; by default inputs, x or images, or x_train, x_test"
    )
    targets: str = option(
        "", help="name of the array of targets; by default targets, y or labels, if there is one"
    )
    test_share: float = option(0.2, minimum=0.0, maximum=1.0, help="share held out, unless the arrays say")
    val_share: float = option(0.1, minimum=0.0, maximum=0.9, help="share of the rest for validation")


class Tensors(SequenceDataset):
    """Arrays whose first axis counts the samples: (N, C, H, W), (N, H, W, C) or (N, H, W), bytes or floats in [0, 1].

    A network with several inputs needs an array for each, called after it, with `_train`, `_val` or `_test` behind the
    name if there are splits. Targets are a class for each sample, (N,), or images, masks or classes of pixels, as the
    network outputs them.
    """

    id: ClassVar[str] = "tensors"
    summary: ClassVar[str] = "arrays of inputs and targets in a .npz or .safetensors file"
    Config: ClassVar[type] = TensorsConfig
    tasks: ClassVar[frozenset[str]] = frozenset(
        {"any", "classification", "detection", "image-to-image", "raw-to-rgb", "segmentation"}
    )
    config: TensorsConfig

    def __init__(self, config: TensorsConfig | None = None) -> None:
        super().__init__(config)
        if not self.config.file:
            raise UsageError("tensors needs a file.", hint="Name it:  --data 'tensors(file=FILE.npz)'")
        self._path = Path(self.config.file).expanduser()
        self._arrays = self._found(open_arrays(self._path))
        self._check_values()
        self.numbers = self._split()

    def _found(self, arrays: Mapping[str, Rows]) -> dict[Split, tuple[Rows, Rows | None]]:
        """Return the arrays of each split; those of the training split if there is only one set."""
        config = self.config
        if not config.inputs:
            found: dict[Split, tuple[Rows, Rows | None]] = {
                split: (arrays[inputs], arrays.get(targets))
                for split, names in _SPLIT_NAMES.items()
                for inputs, targets in names
                if inputs in arrays
            }
            if "train" in found:
                return found
            several = self._several(arrays)
            if several:
                return several
        names = [(config.inputs, config.targets)] if config.inputs else _NAMES
        for inputs, targets in names:
            if inputs in arrays:
                targets = config.targets or targets
                if config.targets and targets not in arrays:
                    raise UsageError(
                        f"{self._path} has no array '{targets}', only {listed(sorted(arrays))}.",
                        hint="Name it:  tensors(file=...,inputs=NAME,targets=NAME)",
                    )
                return {"train": (arrays[inputs], arrays.get(targets))}
        raise UsageError(
            f"{self._path} has no array of inputs, only {listed(sorted(arrays)) or 'nothing'}.",
            hint="Name it:  tensors(file=...,inputs=NAME,targets=NAME)",
        )

    def _several(self, arrays: Mapping[str, Rows]) -> dict[Split, tuple[Rows, Rows | None]]:
        """Return the arrays of several inputs, called after them, with the split behind the name if there are splits.

        Nothing is returned where there are fewer than two, or arrays that are called as those of one input are.
        """
        targets = {self.config.targets} if self.config.targets else {target for _, target in _NAMES}
        if any(inputs in arrays for inputs, _ in _NAMES):
            return {}
        found: dict[Split, tuple[Rows, Rows | None]] = {}
        for split, ending in ((None, ""), *((each, f"_{each}") for each in _SPLIT_NAMES)):
            named = {
                name.removesuffix(ending): array for name, array in arrays.items() if name.endswith(ending)
            }
            wanted = next((named.pop(name) for name in sorted(targets) if name in named), None)
            if not ending and any(name.endswith("_train") for name in named):
                continue
            if len(named) > 1:
                found[split or "train"] = SeveralRows(named, str(self._path)), wanted
        return found

    def _check_values(self) -> None:
        """Refuse arrays of different lengths and what is not finite, before any work."""
        for split, (inputs, targets) in self._arrays.items():
            if not inputs.shape or not inputs.shape[0]:
                raise InputError(
                    f"{self._path}: the array of inputs ({split}) is empty.", hint="Write the file again."
                )
            if inputs.shape[0] > _MOST_SAMPLES:
                raise InputError(
                    f"{self._path} holds {inputs.shape[0]:,} inputs ({split}); the limit is {_MOST_SAMPLES:,}.",
                    hint="Divide it into several files.",
                )
            if targets is not None and targets.shape[:1] != inputs.shape[:1]:
                raise InputError(
                    f"{self._path}: {inputs.shape[0]} inputs, but {targets.shape[0] if targets.shape else 'one'} "
                    f"targets ({split}).",
                    hint="There must be one target for each input.",
                )
            for what, array in (("input", inputs), ("target", targets)):
                for number in range(inputs.shape[0] if array is not None else 0):
                    assert array is not None
                    stored = array[number]
                    if isinstance(stored, Mapping):
                        break  # these are looked at when they are put together
                    row = np.asarray(stored)
                    if row.dtype.kind == "f" and not np.isfinite(row).all():
                        raise InputError(
                            f"{self._path}: {what} {number} ({split}) contains NaN or infinite values.",
                            hint="Repair the data.",
                        )
                    if row.dtype.kind not in "f":
                        break

    def _split(self) -> dict[Split, Sequence[int]]:
        numbers: dict[Split, Sequence[int]] = {"train": (), "val": (), "test": ()}
        numbers |= {split: range(inputs.shape[0]) for split, (inputs, _) in self._arrays.items()}
        labels = self._labels("train")
        for split, share in (("test", self.config.test_share), ("val", self.config.val_share)):
            if split in self._arrays:
                continue
            held = held_out({str(number): labels[number] for number in numbers["train"]}, share, split)
            numbers[split] = [number for number in numbers["train"] if str(number) in held]  # type: ignore[index]
            numbers["train"] = [number for number in numbers["train"] if str(number) not in held]
        return {split: self._mixed(split, found) for split, found in numbers.items()}

    def _mixed(self, split: Split, numbers: Sequence[int]) -> Sequence[int]:
        """Return numbers so that the classes are mixed: of a part, too, figures should tell about the whole."""
        labels = self._labels(split if split in self._arrays else "train")
        return [int(name) for name in interleaved({str(number): labels[number] for number in numbers})]

    def _labels(self, split: Split) -> Sequence[int]:
        """Return the class of each sample of an array, so that each keeps its share; 0 if targets are no classes."""
        inputs, targets = self._arrays[split]
        if targets is None or len(targets.shape) != 1:
            return [0] * inputs.shape[0]
        return [int(targets[number]) for number in range(targets.shape[0])]

    def looked_at(self, split: Split) -> Sequence[int]:
        return self.numbers[split]  # all of them: they are in one file, whose digest is read as well

    def check(self, architecture: Architecture) -> None:
        super().check(architecture)
        if architecture.output.kind == "logits" and {"train", "test"} <= self._arrays.keys():
            trained, tested = (map(str, self._labels(split)) for split in ("train", "test"))
            refuse_untrained(trained, tested, hint="Check the arrays of labels.")

    def read(self, split: Split, number: int) -> tuple[Stored, npt.NDArray[Any] | None]:
        inputs, targets = self._arrays[split if split in self._arrays else "train"]
        row = inputs[number]
        wanted = None if targets is None else np.asarray(targets[number])
        return row if isinstance(row, Mapping) else np.asarray(row), wanted

    def identity(self) -> str:
        return self._identity

    @cached_property
    def _identity(self) -> str:
        config = self.config
        how = f"{config.inputs};{config.targets};{config.test_share:g};{config.val_share:g}"
        return f"tensors/1({sha256_of(self._path)};{how})"
