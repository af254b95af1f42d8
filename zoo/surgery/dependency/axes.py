"""Where the channels of a tensor are after operators that move, drop or merge axes.

Each function takes a node and the channels of its first argument, and returns the channels of its result, or None if
they cannot be followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx
from torch.nn import functional

from zoo.surgery.dependency.union_find import ChannelMap
from zoo.surgery.fx_graph import shape_of


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _shapes(node: fx.Node) -> tuple[torch.Size, torch.Size]:
    """Of the first argument and of the result."""
    return cast("tuple[torch.Size, torch.Size]", (shape_of(cast(fx.Node, node.args[0])), shape_of(node)))


def follow_mean(node: fx.Node, channel_map: ChannelMap) -> ChannelMap | None:
    """Follow a mean over axes other than that of the channels."""
    axes = _argument(node, 1, "dim")
    listed = [axes] if isinstance(axes, int) else axes
    if not isinstance(listed, (tuple, list)) or not all(isinstance(axis, int) for axis in listed):
        return None
    gone = {axis % len(_shapes(node)[0]) for axis in listed}
    if channel_map.axis in gone:
        return None
    if _argument(node, 2, "keepdim", False):
        return channel_map
    return ChannelMap(channel_map.axis - sum(axis < channel_map.axis for axis in gone), channel_map.labels)


def follow_flatten(node: fx.Node, channel_map: ChannelMap) -> ChannelMap | None:
    """Follow (N, C, ...) to (N, C * ...), or to (N, C, ...) with fewer axes."""
    before, after = _shapes(node)
    if after == before:
        return channel_map
    if channel_map.axis != 1 or after[0] != before[0]:
        return None
    if len(after) == 3:
        return channel_map if after[1] == before[1] else None
    if len(after) != 2:
        return None
    each = after[1] // before[1]
    return ChannelMap(1, tuple(label for label in channel_map.labels for _ in range(each)))


def sizes_of(node: fx.Node) -> Sequence[Any]:
    """Return the sizes given to a reshaping: numbers, and nodes that compute numbers."""
    sizes: Any = node.args[1:] or (node.kwargs.get("shape"),)
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def channel_axis(node: fx.Node, channel_map: ChannelMap) -> int:
    """Return the axis of the channels after a reshaping that keeps them whole."""
    before, after = _shapes(node)
    return channel_map.axis if before == after else 1


def follow_reshape(node: fx.Node, channel_map: ChannelMap) -> ChannelMap | None:
    """Follow a reshaping that only flattens and in which the number of channels is not a constant."""
    sizes, at = sizes_of(node), channel_axis(node, channel_map)
    before, after = _shapes(node)
    if before != after and len(after) != 2:
        return None
    if len(sizes) != len(after) or (isinstance(sizes[at], int) and sizes[at] != -1):
        return None
    return follow_flatten(node, channel_map)


def follow_permute(node: fx.Node, channel_map: ChannelMap) -> ChannelMap | None:
    """Follow a permutation of axes."""
    order: Any = node.args[1:] or (node.kwargs.get("dims"),)
    order = order[0] if len(order) == 1 else order
    if not isinstance(order, (tuple, list)) or not all(isinstance(axis, int) for axis in order):
        return None
    return ChannelMap([axis % len(order) for axis in order].index(channel_map.axis), channel_map.labels)


def follow_transpose(node: fx.Node, channel_map: ChannelMap) -> ChannelMap | None:
    """Follow the exchange of two axes."""
    axes = _argument(node, 1, "dim0"), _argument(node, 2, "dim1")
    if not all(isinstance(axis, int) for axis in axes):
        return None
    one, other = (axis % len(_shapes(node)[1]) for axis in axes)
    return ChannelMap({one: other, other: one}.get(channel_map.axis, channel_map.axis), channel_map.labels)


def follow_pad(node: fx.Node, channel_map: ChannelMap) -> ChannelMap | None:
    """Follow padding along axes other than that of the channels."""
    amounts = _argument(node, 1, "pad")
    if not isinstance(amounts, (tuple, list)):
        return None
    return channel_map if channel_map.axis < len(_shapes(node)[1]) - len(amounts) // 2 else None


#: What to call for which function or method.
AXIS_OPERATORS: dict[Any, Callable[[fx.Node, ChannelMap], ChannelMap | None]] = {
    torch.mean: follow_mean, "mean": follow_mean, torch.flatten: follow_flatten, "flatten": follow_flatten,
    "view": follow_reshape, "reshape": follow_reshape, torch.reshape: follow_reshape, "permute": follow_permute,
    torch.permute: follow_permute,
    "transpose": follow_transpose, torch.transpose: follow_transpose, functional.pad: follow_pad,
}  # fmt: skip
