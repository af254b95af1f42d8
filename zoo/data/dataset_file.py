"""A dataset of the user's own: ``path/to/file.py:Dataset``, wherever a dataset is named.

The file is executed, as Python executes it; it is the user who names it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.contracts import Dataset, Split
from zoo.data.batches import divided, parts_of
from zoo.data.sequences import SequenceDataset
from zoo.data.splits import held_out
from zoo.errors import InputError, UsageError
from zoo.options import Text, parse_options
from zoo.plugins import python_file
from zoo.recipes.grammar import parse_stage

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.data.sequences import Stored

_FORM = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)\s*(?P<options>\(.*\))?", re.DOTALL)
_SHARES: tuple[tuple[Split, float], ...] = (("test", 0.2), ("val", 0.1))
#: Samples whose content is part of the identity.
_LOOKED_AT = 16


def load_dataset_file(text: str) -> Dataset:
    """Return the dataset that a text such as ``./mine.py:Scans(root=DIR)`` names.

    What it names is a :class:`zoo.contracts.Dataset`, or a class or function that returns one, or that returns a
    sequence of (input, target) pairs, such as a dataset of torch.

    Raises:
        InputError: The file cannot be executed, or defines something else.
        UsageError: The options do not fit.
    """
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise UsageError(
            f"'{text}' does not name a dataset of your own.",
            hint="Write path/to/file.py:NAME, as in ./mine.py:Scans(root=DIR)",
        )
    path, name = Path(form["path"]).expanduser(), form["name"]
    content = python_file.read(path, "a dataset of your own")
    sha256 = hashlib.sha256(content).hexdigest()
    module = python_file.execute(path, content, sha256)
    make = getattr(module, name, None)
    if not callable(make):
        raise InputError(f"{path} has no class or function '{name}'.", hint="Name one that it defines.")
    options = parse_stage(f"dataset{form['options'] or ''}", "dataset").option_map
    found = _made(make, name, path, options)
    made: Dataset = (
        found
        if isinstance(found, Dataset)
        else _OwnSequence(_as_sequence(found, name, path), f"{name}{form['options'] or ''}", path)
    )
    _complete(made, name, path, sha256)
    return made


def _made(make: Any, name: str, path: Path, options: Mapping[str, Text]) -> Any:
    config = getattr(make, "Config", None)
    with python_file.blamed(path, name), python_file.beside(path):
        if isinstance(make, type) and issubclass(make, Dataset):
            if config is not None:
                configured: Any = make(parse_options(name, config, options))
                return configured
            if options:
                raise UsageError(f"{name} of {path} has no options: it has no class Config.")
            return make()
        made: Any = make(**options)
        return made


def _complete(made: Dataset, name: str, path: Path, sha256: str) -> None:
    """Give a dataset the attributes that a package would state, and the file's digest as part of its identity."""
    if not hasattr(made, "id"):
        made.id = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "own"  # type: ignore[misc]
    if not hasattr(made, "tasks"):
        raise InputError(
            f"{name} of {path} does not state its tasks.",
            hint='Say them:  tasks = frozenset({"classification"})',
        )
    identity = made.identity
    made.identity = lambda: f"{path.name}@{sha256[:16]}:{identity()}"  # type: ignore[method-assign]


def _as_sequence(made: Any, name: str, path: Path) -> Sequence[Any]:
    if not (hasattr(made, "__len__") and hasattr(made, "__getitem__")):
        raise InputError(
            f"{name} of {path} returns {type(made).__name__}, neither a zoo.contracts.Dataset nor a sequence.",
            hint="Return something with __len__ and __getitem__, whose items are (input, target).",
        )
    if not len(made):
        raise InputError(f"{name} of {path} returns an empty sequence.", hint="Check the options.")
    found: Sequence[Any] = made
    return found


class _OwnSequence(SequenceDataset):
    """A sequence of (input, target) pairs, or dictionaries, split by a hash of the numbers."""

    id: ClassVar[str] = "own"
    summary: ClassVar[str] = "a sequence of a user's own"
    Config: ClassVar[type] = type(None)
    tasks: ClassVar[frozenset[str]] = frozenset({"any"})

    def __init__(self, items: Sequence[Any], how: str, path: Path) -> None:
        super().__init__()
        self._items = items
        self._how = how
        self._path = path
        left = [str(number) for number in range(len(items))]
        self.numbers = {"train": (), "val": (), "test": ()}
        for split, share in _SHARES:
            held = held_out(dict.fromkeys(left, 0), share, split)
            self.numbers[split] = [int(number) for number in left if number in held]
            left = [number for number in left if number not in held]
        self.numbers["train"] = [int(number) for number in left]

    def read(self, split: Split, number: int) -> tuple[Stored, npt.NDArray[Any] | None]:
        with python_file.blamed(self._path, f"sample {number} of {self._how}"):
            item = self._items[number]
        inputs, target = item if isinstance(item, (tuple, list)) and len(item) == 2 else (item, None)
        if isinstance(item, Mapping):
            inputs, target = divided(item)
        wanted = None if target is None else np.asarray(target)
        if isinstance(inputs, (tuple, list)) and all(hasattr(each, "shape") for each in inputs):
            inputs = {str(place): each for place, each in enumerate(inputs)}
        if isinstance(inputs, Mapping):
            return {str(name): np.asarray(each) for name, each in inputs.items()}, wanted
        return np.asarray(inputs), wanted

    def identity(self) -> str:
        digest = hashlib.sha256()
        step = max(1, len(self._items) // _LOOKED_AT)
        for number in range(0, len(self._items), step):
            inputs, target = self.read("train", number)
            for array in (*parts_of(inputs).values(), target):
                if array is not None:
                    digest.update(
                        f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
                    )
        return f"{self._how}({len(self._items)};{digest.hexdigest()})"
