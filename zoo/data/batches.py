"""Batches as Python programs have them: loaders, lists of tensors, dictionaries, arrays; one sample after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    #: One input, (C, H, W), or several by name; those that come in a tuple are called by their places.
    Inputs: TypeAlias = npt.NDArray[np.float32] | Mapping[str, npt.NDArray[np.float32]]
    #: An input, and its target if there is one.
    Pair: TypeAlias = tuple[Inputs, npt.NDArray[Any] | None]

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
        names: Of the inputs, where they are several.
    """

    def __init__(self, begin: Callable[[], Iterator[Any]], names: Sequence[str] = ()) -> None:
        self._begin, self._names = begin, names

    def __iter__(self) -> Iterator[Pair]:
        for batch in self._begin():
            yield from pairs_of(batch, self._names)


def read_data(data: Any, names: Sequence[str] = ()) -> IndexedPairs | StreamedPairs:
    """Return the samples of whatever a program passes as data.

    Arrays and tensors, alone or as a tuple (inputs, targets), where inputs may be several in a tuple or a dictionary,
    are read by number, and so is a map-style dataset, alone
    or in a loader that draws its samples in order or at random. Anything else is iterated over batch by batch, as often
    as needed. An iterator that can be run through only once is kept, up to LARGEST_KEPT bytes.

    Args:
        data: Whatever it is.
        names: Of the inputs in dictionaries, where they are several and that is known.

    Raises:
        UsageError: It is nothing of these.
        InputError: An iterator yields more than may be kept.
    """
    if isinstance(data, tuple) and len(data) == 2 and data[1] is None:
        data = data[0]  # inputs without targets
    if _is_array(data):
        return _arrays(data, None)
    if isinstance(data, tuple) and len(data) == 2 and _is_array(data[1]):
        if _is_array(data[0]):
            return _arrays(*data)
        if isinstance(data[0], (tuple, list, Mapping)) and all(
            map(_is_array, data[0].values() if isinstance(data[0], Mapping) else data[0])
        ):
            return _indexed(list(pairs_of(data, names)))
    if isinstance(data, Mapping) and data and all(map(_is_array, data.values())):
        return _indexed(list(pairs_of(data, names)))
    loaded = _loaded_by_number(data, names)
    if loaded is not None:
        return loaded
    if callable(data) and not hasattr(data, "__iter__"):
        return StreamedPairs(data, names)
    if not hasattr(data, "__iter__"):
        raise UsageError(
            f"data is {type(data).__name__}, which is neither batches nor arrays nor a dataset.",
            hint='Pass a DataLoader, a list of (inputs, targets), arrays, or a dataset: data="folder(root=DIR)".',
        )
    if iter(data) is data:
        return _indexed(_kept(data, names))
    return StreamedPairs(lambda: iter(data), names)


def pairs_of(batch: Any, names: Sequence[str] = ()) -> Iterator[Pair]:
    """Yield the samples of a batch: a tensor, (inputs, targets, ...), or a dictionary of them.

    Several inputs are a tuple or a dictionary in place of the inputs, or the entries of the batch besides the targets.

    Raises:
        UsageError: A batch is none of these, or a dictionary has other keys.
    """
    inputs, targets = divided(batch, names)
    several = isinstance(inputs, (Mapping, tuple, list))
    parts = (
        dict(inputs) if isinstance(inputs, Mapping) else dict(enumerate(inputs)) if several else {"": inputs}
    )
    columns = {str(name): _numpy(part) for name, part in parts.items()}
    rows = next(iter(columns.values()))
    wanted = None if targets is None else _numpy(targets)
    if several and len({array.shape[:1] for array in columns.values()}) > 1:
        shapes = ", ".join(str(array.shape) for array in columns.values())
        raise UsageError(f"A batch holds inputs of {shapes}, whose numbers of samples differ.")
    if not several and (rows.ndim < 2 or rows.dtype.kind != "f"):
        raise UsageError(
            f"A batch holds inputs of {rows.shape} and type {rows.dtype}; floats with a batch dimension, (N, C, H, W), "
            "are needed, as the network takes them.",
            hint="Convert bytes first: x.float() / 255",
        )
    if wanted is not None and (wanted.ndim == 0 or len(wanted) != len(rows)):
        raise UsageError(
            f"A batch holds {len(rows)} inputs, but targets of {wanted.shape}.",
            hint="Both need a batch dimension: of single samples, pass DataLoader(data, batch_size=32).",
        )
    for number, row in enumerate(rows):
        inputs = {name: array[number] for name, array in columns.items()} if several else row
        yield _sample(inputs, None if wanted is None else wanted[number])


def parts_of(inputs: Inputs) -> Mapping[str, npt.NDArray[Any]]:
    """Return the inputs of a sample by name; a lone one is called ""."""
    return inputs if isinstance(inputs, Mapping) else {"": inputs}


def _sample(row: Any, target: Any) -> Pair:
    inputs: Inputs = (
        {name: np.asarray(part) for name, part in row.items()}
        if isinstance(row, Mapping)
        else np.ascontiguousarray(row, np.float32)
    )
    if target is None:
        return inputs, None
    wanted = np.asarray(target)
    if wanted.dtype.kind not in "fiub":
        raise UsageError(
            f"A target is {wanted.dtype}, such as {str(target)[:40]!a}; numbers are needed.",
            hint="Number the classes from 0:  names, targets = numpy.unique(labels, return_inverse=True)",
        )
    return (
        inputs,
        wanted.astype(np.float32) if wanted.dtype.kind == "f" else wanted.astype(np.int64),
    )


def divided(batch: Any, names: Sequence[str] = ()) -> tuple[Any, Any]:
    """Return the inputs and the targets of a batch or of a sample; None for targets that it lacks.

    Args:
        batch: The batch.
        names: Of the inputs, where they are several and that is known.

    Raises:
        UsageError: It is a dictionary whose keys do not say which is the input.
    """
    if isinstance(batch, Mapping):
        found = [
            next((batch[key] for key in keys if key in batch), None) for keys in (_INPUT_KEYS, _TARGET_KEYS)
        ]
        if len(names) > 1 and all(name in batch for name in names):
            return {name: batch[name] for name in names}, found[1]
        others = {key: value for key, value in batch.items() if value is not found[1]}
        if found[0] is None and len(others) > 1:
            return others, found[1]
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


def _indexed(pairs: list[Pair]) -> IndexedPairs:
    return IndexedPairs(len(pairs), pairs.__getitem__)


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


def _loaded_by_number(data: Any, names: Sequence[str]) -> IndexedPairs | None:
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
        pairs = list(pairs_of(collate([source[number]]), names))
        if len(pairs) != 1:
            raise UsageError(
                f"The loader makes {len(pairs)} samples of one; batches of one sample must hold one."
            )
        return pairs[0]

    return IndexedPairs(len(source), read)


def _kept(data: Iterator[Any], names: Sequence[str]) -> list[Pair]:
    kept: list[Pair] = []
    total = 0
    for batch in data:
        for pair in pairs_of(batch, names):
            total += sum(each.nbytes for each in (*parts_of(pair[0]).values(), pair[1]) if each is not None)
            if total > LARGEST_KEPT:
                raise InputError(
                    f"data can be run through only once, and holds more than the {LARGEST_KEPT >> 20} MiB that are "
                    "kept of "
                    "such an iterator.",
                    hint="Pass a DataLoader, or a function without arguments that returns a new iterator.",
                )
            kept.append(pair)
    return kept
