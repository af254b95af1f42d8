"""Labels of channels that stand or fall together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn


@dataclass
class ParameterSlice:
    """What a label does to a parameter: the label at each index of one side of it.

    kind: "in", "out" (of `WEIGHTED` layers), "depthwise", "features" (a norm's), or the name of a loose parameter.
    """

    owner: nn.Module
    name: str
    kind: str
    labels: list[int]
    axis: int = 0
    #: depthwise: the labels of what goes in; there may be several outputs to each
    inputs: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class ChannelMap:
    """The channels of a tensor: the axis they lie along, and the label of each."""

    axis: int
    labels: tuple[int, ...]


class UnionFind:
    """Labels that can be united, and pinned if their channels have to stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._frozen: set[int] = set()

    def root(self, label: int) -> int:
        """The label that stands for all that are united with `label`."""
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def is_frozen(self, label: int) -> bool:
        """Whether the channel has to stay."""
        return self.root(label) in self._frozen

    def new(self, count: int) -> tuple[int, ...]:
        """So many labels that are united with none."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return tuple(range(first, first + count))

    def unite(self, one: int, other: int) -> None:
        """Let two channels stand or fall together."""
        one, other = self.root(one), self.root(other)
        if one != other:
            self._parent[other] = one
            if other in self._frozen:
                self._frozen.add(one)

    def unite_all(self, one: Sequence[int], other: Sequence[int]) -> None:
        """Let each channel of one tensor stand or fall with that of another."""
        for a, b in zip(one, other, strict=True):
            self.unite(a, b)

    def unite_groups(self, labels: Sequence[int], groups: int) -> None:
        """Let the same channel of every group stand or fall with that of the others."""
        width = len(labels) // groups
        for index in range(width, len(labels)):
            self.unite(labels[index % width], labels[index])

    def freeze(self, channel_map: ChannelMap | None) -> None:
        """Let all channels of a tensor stay."""
        if channel_map is not None:
            self._frozen.update(self.root(label) for label in channel_map.labels)
