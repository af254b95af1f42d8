"""Labels of channels that can only be removed together, and where those channels are in parameters and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn


@dataclass
class ParameterSlice:
    """One side of a parameter, with the label of the channel at each index.

    Attributes:
        owner: The module that holds the parameter.
        name: The module's name; of a loose parameter, its own.
        kind: "in" and "out" (sides of a convolution or linear layer's weight), "depthwise", "features" (of a norm or
            PReLU), or the attribute of a loose parameter.
        labels: The label of each index.
        axis: The axis of a loose parameter.
        inputs: Of a depthwise convolution, the label of each input channel; each may have several outputs.
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
    """The channels of a tensor.

    Attributes:
        axis: The axis they lie along.
        labels: The label of each.
    """

    axis: int
    labels: tuple[int, ...]


class UnionFind:
    """Labels that can be united into groups, and frozen if their channels must stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._frozen: set[int] = set()

    def group_of(self, label: int) -> int:
        """Return the group of a label: the label that stands for all those united with it."""
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def is_frozen(self, label: int) -> bool:
        """Return whether a label's channel must stay."""
        return self.group_of(label) in self._frozen

    def new(self, count: int) -> tuple[int, ...]:
        """Return `count` new labels, each a group of its own."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return tuple(range(first, first + count))

    def unite(self, one: int, other: int) -> None:
        """Unite the groups of two labels."""
        one, other = self.group_of(one), self.group_of(other)
        if one != other:
            self._parent[other] = one
            if other in self._frozen:
                self._frozen.add(one)

    def unite_all(self, one: Sequence[int], other: Sequence[int]) -> None:
        """Unite each label with the one at the same place in a sequence of equal length."""
        for a, b in zip(one, other, strict=True):
            self.unite(a, b)

    def unite_groups(self, labels: Sequence[int], groups: int) -> None:
        """Unite the labels of the same channel in each of `groups` equal parts."""
        width = len(labels) // groups
        for index in range(width, len(labels)):
            self.unite(labels[index % width], labels[index])

    def freeze(self, channel_map: ChannelMap | None) -> None:
        """Let all channels of a tensor stay; None has none."""
        if channel_map is not None:
            self._frozen.update(self.group_of(label) for label in channel_map.labels)
