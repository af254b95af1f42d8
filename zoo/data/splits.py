"""Splitting labelled data so that each class keeps its share in every split, whatever machine does it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import TypeVar

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


def _fraction(name: str) -> float:
    """Return a number in [0, 1) that only depends on a name."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:6], "big") / 2**48
