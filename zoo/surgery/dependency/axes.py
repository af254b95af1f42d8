"""Where the channels of a tensor lie after operators that move axes, drop some, or merge them.

Each function is given a node and the channels of its first argument; None means that they cannot be followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx
from torch.nn import functional

from zoo.surgery.dependency.union_find import Sight
from zoo.surgery.fx_graph import shape_of


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _shapes(node: fx.Node) -> tuple[torch.Size, torch.Size]:
    """Of the first argument and of the result."""
    return cast("tuple[torch.Size, torch.Size]", (shape_of(cast(fx.Node, node.args[0])), shape_of(node)))


def reduced(node: fx.Node, sight: Sight) -> Sight | None:
    """A mean over other axes than that of the channels."""
    axes = _argument(node, 1, "dim")
    listed = [axes] if isinstance(axes, int) else axes
    if not isinstance(listed, (tuple, list)) or not all(isinstance(axis, int) for axis in listed):
        return None
    gone = {axis % len(_shapes(node)[0]) for axis in listed}
    if sight.axis in gone:
        return None
    keeps = _argument(node, 2, "keepdim", False)
    return sight if keeps else Sight(sight.axis - sum(a < sight.axis for a in gone), sight.labels)


def flattened(node: fx.Node, sight: Sight) -> Sight | None:
    """(N, C, ...) to (N, C * ...) or to (N, C, ...) with fewer axes."""
    before, after = _shapes(node)
    if after == before:
        return sight
    if sight.axis != 1 or after[0] != before[0]:
        return None
    if len(after) == 3:
        return sight if after[1] == before[1] else None
    if len(after) != 2:
        return None
    each = after[1] // before[1]
    return Sight(1, tuple(label for label in sight.labels for _ in range(each)))


def sizes_of(node: fx.Node) -> Sequence[Any]:
    """What a reshaping is told to make of its argument: numbers, and nodes that give some."""
    sizes: Any = node.args[1:] or (node.kwargs.get("shape"),)
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def channel_axis(node: fx.Node, sight: Sight) -> int:
    """Where a reshaping leaves the channels, if it leaves them whole."""
    before, after = _shapes(node)
    return sight.axis if before == after else 1


def reshaped(node: fx.Node, sight: Sight) -> Sight | None:
    """A reshaping that only flattens, and does not hold the number of channels as a constant."""
    sizes, at = sizes_of(node), channel_axis(node, sight)
    before, after = _shapes(node)
    if before != after and len(after) != 2:
        return None
    if len(sizes) != len(after) or (isinstance(sizes[at], int) and sizes[at] != -1):
        return None
    return flattened(node, sight)


def permuted(node: fx.Node, sight: Sight) -> Sight | None:
    """Axes in another order."""
    order: Any = node.args[1:] or (node.kwargs.get("dims"),)
    order = order[0] if len(order) == 1 else order
    if not isinstance(order, (tuple, list)) or not all(isinstance(axis, int) for axis in order):
        return None
    return Sight([axis % len(order) for axis in order].index(sight.axis), sight.labels)


def transposed(node: fx.Node, sight: Sight) -> Sight | None:
    """Two axes in each other's place."""
    axes = _argument(node, 1, "dim0"), _argument(node, 2, "dim1")
    if not all(isinstance(axis, int) for axis in axes):
        return None
    one, other = (axis % len(_shapes(node)[1]) for axis in axes)
    return Sight({one: other, other: one}.get(sight.axis, sight.axis), sight.labels)


def padded(node: fx.Node, sight: Sight) -> Sight | None:
    """Padding along other axes than that of the channels; amounts come last axis first, two for each."""
    amounts = _argument(node, 1, "pad")
    if not isinstance(amounts, (tuple, list)):
        return None
    return sight if sight.axis < len(_shapes(node)[1]) - len(amounts) // 2 else None


#: What to call for which function or method.
OPERATORS: dict[Any, Callable[[fx.Node, Sight], Sight | None]] = {
    torch.mean: reduced, "mean": reduced, torch.flatten: flattened, "flatten": flattened, "view": reshaped,
    "reshape": reshaped, torch.reshape: reshaped, "permute": permuted, torch.permute: permuted,
    "transpose": transposed, torch.transpose: transposed, functional.pad: padded,
}  # fmt: skip
