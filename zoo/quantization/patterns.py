"""Choosing layers by patterns of their names, and those at a network's ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import fx, nn

from zoo.contracts import Architecture
from zoo.errors import UnknownIdError
from zoo.suggest import did_you_mean

#: A module that holds more layers than this is not a block but a large part of a network.
_LARGEST_BLOCK = 3


def matching(pattern: str, layers: Iterable[str], owner: str) -> list[str]:
    """Return the layers that `pattern` (``down1``, ``*.conv2``) names, or that are in modules it names.

    Raises:
        UnknownIdError: There is none; the error names `owner` and the pattern.
    """
    layers = list(layers)
    found = [layer for layer in layers if any(fnmatchcase(name, pattern) for name in _with_parents(layer))]
    if not found:
        known = sorted({name for layer in layers for name in _with_parents(layer)})
        raise UnknownIdError(
            f"{owner}: '{pattern}' matches no layer of the network{did_you_mean(pattern, known)}",
            hint=f"Its layers are: {', '.join(layers[:12])}{', ...' if len(layers) > 12 else ''}",
        )
    return found


def _with_parents(layer: str) -> list[str]:
    parts = layer.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def first_block(layers: Iterable[str], architecture: Architecture | None) -> list[str]:
    """Return the layers of the network's first block, of `layers` in execution order.

    The block is the outermost stage of the architecture, if it states its stages; otherwise the module that holds the
    first layer, if it holds no more than two others; otherwise that layer.
    """
    layers = list(layers)
    first = layers[0]
    for stage in (architecture.stages() if architecture is not None else ())[:1]:
        inside = _inside(str(stage.get("down", "")), layers)
        if first in inside:
            return inside
    inside = _inside(first.rpartition(".")[0], layers)
    return inside if 0 < len(inside) <= _LARGEST_BLOCK else [first]


def _inside(block: str, layers: list[str]) -> list[str]:
    return [layer for layer in layers if block and layer.startswith(f"{block}.")]


def last_layers(module: fx.GraphModule, layers: Mapping[str, nn.Module]) -> list[str]:
    """Return the layers with no other layer between them and the network's output."""
    found: list[str] = []
    seen: set[fx.Node] = set()
    left = [module.graph.output_node()]
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "call_module" and node.target in layers:
            found.append(str(node.target))
        else:
            left += node.all_input_nodes
    return found
