"""Which numbers a traced network works out from how many channels a tensor has.

``B, C, H, W = x.shape`` followed by ``y.reshape(B, heads, C // heads, H * W)`` ties the channels of `x` to those of
`y` where no tensor does: were some of `x` removed, `y` would be reshaped wrongly.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx

from zoo.surgery.dependency.axes import OPERATORS, channel_axis, reshaped, sizes_of
from zoo.surgery.dependency.union_find import Sight
from zoo.surgery.fx_graph import shape_of

#: Questions to a tensor of which the answer is no tensor.
QUESTIONS: frozenset[Any] = frozenset({getattr, "size", "dim", "numel"})


class Counts:
    """The tensors whose number of channels goes into each node that gives a number or a shape."""

    def __init__(self) -> None:
        self._counted: dict[fx.Node, tuple[Sight, ...]] = {}
        self._shapes: dict[fx.Node, Sight] = {}

    def note(self, node: fx.Node, sights: Mapping[fx.Node, Sight]) -> None:
        """Take in a node that gives no tensor. sights: the channels of the tensors before it."""
        source = node.args[0] if node.args else None
        sight = sights.get(source) if isinstance(source, fx.Node) else None
        if sight is not None and node.target in QUESTIONS:
            self._ask(node, sight)
        elif isinstance(source, fx.Node) and source in self._shapes and node.target is operator.getitem:
            self._pick(node, cast(fx.Node, source.args[0]), self._shapes[source], node.args[1])
        else:
            self._counted[node] = self.of(*node.all_input_nodes)

    def of(self, *nodes: fx.Node) -> tuple[Sight, ...]:
        """What is counted in some of these nodes."""
        return tuple(sight for node in nodes for sight in self._counted.get(node, ()))

    def _ask(self, node: fx.Node, sight: Sight) -> None:
        if node.target == "size" and len(node.args) + len(node.kwargs) > 1:
            axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            self._pick(node, cast(fx.Node, node.args[0]), sight, axis)
        elif node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
            self._counted[node], self._shapes[node] = (sight,), sight
        elif node.target == "numel":
            self._counted[node] = (sight,)

    def _pick(self, node: fx.Node, tensor: fx.Node, sight: Sight, index: Any) -> None:
        """One side of a tensor, or several: what is no constant may be that of the channels."""
        axes = range(len(cast(torch.Size, shape_of(tensor))))
        if isinstance(index, int):
            wanted = axes[index] == sight.axis
        elif isinstance(index, slice) and all(
            each is None or isinstance(each, int) for each in (index.start, index.stop, index.step)
        ):
            wanted = sight.axis in axes[index]
        else:
            wanted = True
        if wanted:
            self._counted[node] = (sight,)


def channel_count(node: fx.Node, sight: Sight) -> fx.Node | None:
    """The node that tells a reshaping, and nothing else of it, how many channels there are to be."""
    if OPERATORS.get(node.target) is not reshaped:
        return None
    sizes, at = sizes_of(node), channel_axis(node, sight)
    size = sizes[at] if at < len(sizes) else None
    return size if isinstance(size, fx.Node) and list(sizes).count(size) == 1 else None
