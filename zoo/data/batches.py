"""Batches as Python programs have them: loaders, lists of tensors, dictionaries, arrays; one sample after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    #: An input, (C, H, W), and its target if there is one.
    Pair: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[Any] | None]

#: What the entries of a dictionary are called.
_INPUT_KEYS = ("input", "inputs", "x", "image", "images", "pixel_values", "img", "data")
_TARGET_KEYS = ("target", "targets", "y", "label", "labels", "mask", "masks", "class")
#: What may be kept of an iterator that can be run through only once, in bytes.
LARGEST_KEPT = 1 << 30


class IndexedPairs:
    """Samples that can be read by number.

    Args:
        count: How many there are.
        read: Returns a sample by its number.
    """

    def __init__(self, count: int, read: Callable[[int], Pair]) -> None:
        self.count, self.read = count, read


class StreamedPairs:
    """Samples that can only be read from the beginning, any number of times.

    Args:
        begin: Returns an iterator over batches.
    """

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Pair]:
        for batch in self._begin():
            yield from pairs_of(batch)


def read_data(data: Any) -> IndexedPairs | StreamedPairs:
    """Return the samples of whatever a program passes as data.

    Arrays and tensors, alone or as a tuple (inputs, targets), are read by number, and so is a map-style dataset, alone
    or in a loader that draws its samples in order or at random. Anything else is iterated over batch by batch, as often
    as needed. An iterator that can be run through only once is kept, up to LARGEST_KEPT bytes.

    Raises:
        UsageError: It is nothing of these.
        InputError: An iterator yields more than may be kept.
    """
    if _is_array(data):
        return _arrays(data, None)
    if isinstance(data, tuple) and len(data) == 2 and all(map(_is_array, data)):
        return _arrays(*data)
    loaded = _loaded_by_number(data)
    if loaded is not None:
        return loaded
    if callable(data) and not hasattr(data, "__iter__"):
        return StreamedPairs(data)
    if not hasattr(data, "__iter__"):
        raise UsageError(
            f"data is {type(data).__name__}, which is neither batches nor arrays nor a dataset.",
            hint='Pass a DataLoader, a list of (inputs, targets), arrays, or a dataset: data="folder(root=DIR)".',
        )
    if iter(data) is data:
        kept = _kept(data)
        return IndexedPairs(len(kept), kept.__getitem__)
    return StreamedPairs(lambda: iter(data))


def pairs_of(batch: Any) -> Iterator[Pair]:
    """Yield the samples of a batch: a tensor, (inputs, targets, ...), or a dictionary of them.

    Raises:
        UsageError: A batch is none of these, or a dictionary has other keys.
    """
    inputs, targets = _divided(batch)
    rows = _numpy(inputs)
    wanted = None if targets is None else _numpy(targets)
    if rows.ndim < 2 or rows.dtype.kind != "f":
        raise UsageError(
            f"A batch holds inputs of {rows.shape} and type {rows.dtype}; floats with a batch dimension, (N, C, H, W), "
            "are needed, as the network takes them.",
            hint="Convert bytes first: x.float() / 255",
        )
    if wanted is not None and (wanted.ndim == 0 or len(wanted) != len(rows)):
        raise UsageError(f"A batch holds {len(rows)} inputs, but targets of {wanted.shape}.")
    for number, row in enumerate(rows):
        yield _sample(row, None if wanted is None else wanted[number])


def _sample(row: npt.NDArray[Any], target: Any) -> Pair:
    if target is None:
        return np.ascontiguousarray(row, np.float32), None
    wanted = np.asarray(target)
    return (
        np.ascontiguousarray(row, np.float32),
        wanted.astype(np.float32) if wanted.dtype.kind == "f" else wanted.astype(np.int64),
    )


def _divided(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        found = [
            next((batch[key] for key in keys if key in batch), None) for keys in (_INPUT_KEYS, _TARGET_KEYS)
        ]
        if found[0] is None:
            raise UsageError(
                f"A batch is a dictionary of {', '.join(map(str, batch))}; which of these is the input is not known.",
                hint="Call it 'input', and the target 'target'; or yield (inputs, targets).",
            )
        return found[0], found[1]
    if isinstance(batch, (tuple, list)) and batch and not isinstance(batch[0], (int, float)):
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None


def _numpy(value: Any) -> npt.NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.dtype.is_floating_point else value
        return np.asarray(value.numpy())
    return np.asarray(value)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "dtype"))


def _arrays(inputs: Any, targets: Any) -> IndexedPairs:
    rows, wanted = _numpy(inputs), None if targets is None else _numpy(targets)
    first = next(pairs_of((rows[:1], None if wanted is None else wanted[:1])), None)
    if first is None:
        raise InputError("data holds no samples.")
    if wanted is not None and len(wanted) != len(rows):
        raise UsageError(f"data holds {len(rows)} inputs, but {len(wanted)} targets.")
    return IndexedPairs(
        len(rows), lambda number: _sample(rows[number], None if wanted is None else wanted[number])
    )


def _loaded_by_number(data: Any) -> IndexedPairs | None:
    """The samples of a map-style dataset or of a loader over one; None for anything else."""
    try:
        from torch.utils.data import (
            DataLoader,
            Dataset,
            IterableDataset,
            RandomSampler,
            SequentialSampler,
            default_collate,
        )
    except ImportError:  # arrays need no torch
        return None
    collate: Callable[[list[Any]], Any] = default_collate
    source = data
    if isinstance(data, DataLoader):
        if type(data.sampler) not in (RandomSampler, SequentialSampler) or data.batch_size is None:
            return None  # it chooses its samples itself
        source, collate = data.dataset, data.collate_fn
    if (
        not isinstance(source, Dataset)
        or isinstance(source, IterableDataset)
        or not hasattr(source, "__len__")
    ):
        return None

    def read(number: int) -> Pair:
        pairs = list(pairs_of(collate([source[number]])))
        if len(pairs) != 1:
            raise UsageError(
                f"The loader makes {len(pairs)} samples of one; batches of one sample must hold one."
            )
        return pairs[0]

    return IndexedPairs(len(source), read)


def _kept(data: Iterator[Any]) -> list[Pair]:
    kept: list[Pair] = []
    total = 0
    for batch in data:
        for pair in pairs_of(batch):
            total += sum(each.nbytes for each in pair if each is not None)
            if total > LARGEST_KEPT:
                raise InputError(
                    f"data can be run through only once, and holds more than the {LARGEST_KEPT >> 20} MiB that are "
                    "kept of "
                    "such an iterator.",
                    hint="Pass a DataLoader, or a function without arguments that returns a new iterator.",
                )
            kept.append(pair)
    return kept
