"""Splitting data by hashes of names, so that every machine does it alike and adding files moves few others."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from zoo.contracts import Split
from zoo.errors import UsageError
from zoo.suggest import did_you_mean

Label = TypeVar("Label", bound=Hashable)


def held_out(labels: Mapping[str, Label], share: float, split: str) -> set[str]:
    """Return the names of a share of the samples, within less than one of that share of each class.

    Each class is ordered by a hash of the names, and every 1/share-th is taken from a start that a hash of the class
    decides (systematic sampling). So classes of a single sample are split by their share too, and adding files
    moves few others.

    Args:
        labels: The label of each sample, by its name.
        share: From 0 to 1.
        split: What they are held out for; another one starts elsewhere.
    """
    members: dict[Label, list[str]] = defaultdict(list)
    for name, label in labels.items():
        members[label].append(name)
    held: set[str] = set()
    for label, names in members.items():
        start = _fraction(f"{split} of class {label}")
        for position, name in enumerate(sorted(names, key=_fraction)):
            first, last = (int((position + more) * share + start) for more in (0, 1))
            if last > first:
                held.add(name)
    return held


def interleaved(labels: Mapping[str, Label]) -> list[str]:
    """Return the names in an order whose beginning, wherever it is cut, has about the share of each class.

    So the first 500 images of a test split tell about all of it.

    Args:
        labels: The label of each sample, by its name.
    """
    members: dict[Label, list[str]] = defaultdict(list)
    for name, label in labels.items():
        members[label].append(name)
    places: dict[str, float] = {}
    for label, names in members.items():
        start = _fraction(f"order of class {label}")
        for position, name in enumerate(sorted(names, key=_fraction)):
            places[name] = (position + start) / len(names)
    return sorted(places, key=lambda name: (places[name], name))


def split_names(
    names: Sequence[str], owner: str, *, test: Sequence[str], test_share: float, val_share: float
) -> dict[Split, list[str]]:
    """Return the names in each split, in their order: a share is held out, the lowest by a hash of the name.

    Args:
        names: All of them.
        owner: Id of the dataset, for messages.
        test: The names that are held out; a share of all if there are none.
        test_share: Share of the names that are held out.
        val_share: Share of the rest for validation.

    Raises:
        UsageError: One that should be held out is not among them.
    """
    for name in test:
        if name not in names:
            raise UsageError(
                f"{owner}: there is no image '{name}' to hold out{did_you_mean(name, names) or '.'}",
                hint=f"They are called {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}",
            )
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    held = set(test or ranked[: round(test_share * len(names))])
    rest = [name for name in ranked if name not in held]
    checked = set(rest[: round(val_share * len(rest))])
    splits: dict[Split, list[str]] = {"train": [], "val": [], "test": []}
    for name in names:
        splits["test" if name in held else "val" if name in checked else "train"].append(name)
    return splits


def _fraction(name: str) -> float:
    """Return a number in [0, 1) that only depends on a name."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:6], "big") / 2**48
