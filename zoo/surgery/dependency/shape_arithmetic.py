"""Which numbers a traced network computes from the number of a tensor's channels.

``B, C, H, W = x.shape`` followed by ``y.reshape(B, heads, C // heads, H * W)`` ties the channels of `x` to those of
`y` where no tensor does: if some of `x` were removed, `y` would be reshaped wrongly.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx

from zoo.surgery.dependency.axes import AXIS_OPERATORS, channel_axis, follow_reshape, sizes_of
from zoo.surgery.dependency.union_find import ChannelMap
from zoo.surgery.fx_graph import shape_of

#: Questions to a tensor whose answer is not a tensor.
QUESTIONS: frozenset[Any] = frozenset({getattr, "size", "dim", "numel"})


class CountedChannels:
    """For each node that computes a number or a shape, the tensors whose channel count goes into it."""

    def __init__(self) -> None:
        self._counted: dict[fx.Node, tuple[ChannelMap, ...]] = {}
        self._shapes: dict[fx.Node, ChannelMap] = {}

    def note(self, node: fx.Node, channel_maps: Mapping[fx.Node, ChannelMap]) -> None:
        """Add a node that does not compute a tensor.

        Args:
            node: The node.
            channel_maps: The channels of the tensors before it.
        """
        source = node.args[0] if node.args else None
        channel_map = channel_maps.get(source) if isinstance(source, fx.Node) else None
        if channel_map is not None and node.target in QUESTIONS:
            self._ask(node, channel_map)
        elif isinstance(source, fx.Node) and source in self._shapes and node.target is operator.getitem:
            self._pick(node, cast(fx.Node, source.args[0]), self._shapes[source], node.args[1])
        else:
            self._counted[node] = self.of(*node.all_input_nodes)

    def of(self, *nodes: fx.Node) -> tuple[ChannelMap, ...]:
        """Return the channels that some nodes count."""
        return tuple(channel_map for node in nodes for channel_map in self._counted.get(node, ()))

    def _ask(self, node: fx.Node, channel_map: ChannelMap) -> None:
        if node.target == "size" and len(node.args) + len(node.kwargs) > 1:
            axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            self._pick(node, cast(fx.Node, node.args[0]), channel_map, axis)
        elif node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
            self._counted[node], self._shapes[node] = (channel_map,), channel_map
        elif node.target == "numel":
            self._counted[node] = (channel_map,)

    def _pick(self, node: fx.Node, tensor: fx.Node, channel_map: ChannelMap, index: Any) -> None:
        """One side of a tensor, or several: what is not a constant may be that of the channels."""
        axes = range(len(cast(torch.Size, shape_of(tensor))))
        if isinstance(index, int):
            wanted = axes[index] == channel_map.axis
        elif isinstance(index, slice) and all(
            each is None or isinstance(each, int) for each in (index.start, index.stop, index.step)
        ):
            wanted = channel_map.axis in axes[index]
        else:
            wanted = True
        if wanted:
            self._counted[node] = (channel_map,)


def channel_count(node: fx.Node, channel_map: ChannelMap) -> fx.Node | None:
    """Return the node that tells a reshaping how many channels its result has, if it tells nothing else; or None."""
    if AXIS_OPERATORS.get(node.target) is not follow_reshape:
        return None
    sizes, at = sizes_of(node), channel_axis(node, channel_map)
    size = sizes[at] if at < len(sizes) else None
    return size if isinstance(size, fx.Node) and list(sizes).count(size) == 1 else None
