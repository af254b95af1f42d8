"""Layers through which a network passes its input on to its output, beside those that compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import fx

#: Layers one after the other on such a way: the last, and one before it, such as a gate.
_MOST = 2


def direct_layers(module: fx.GraphModule, layers: Iterable[str]) -> set[str]:
    """Return the layers of a way past the network: its input reaches its output through hardly anything else.

    What such a network computes is added to what they make of the input, as in residual denoisers and demosaicers.
    Rounded to 8 bits, the input would lose there what no other layer can restore. A layer counts if the input reaches
    it through no other layer, at most one layer is before it, and only operators without weights are behind it. There
    are none if no other layer gives the output.

    Args:
        module: A traced network.
        layers: The paths of its layers.
    """
    found = set(layers)
    at = {node: str(node.target) for node in module.graph.nodes if _is_layer(node, found)}
    deepest: dict[fx.Node, int] = {}
    direct: set[fx.Node] = set()
    for node in module.graph.nodes:
        sources = node.all_input_nodes
        deepest[node] = max((deepest[source] for source in sources), default=0) + (node in at)
        reached = any(source in direct and source not in at for source in sources)
        if node.op == "placeholder" or reached:
            direct.add(node)
    last = _next(module.graph.output_node(), at)
    ways = {node for node in last if node in direct and deepest[node] <= _MOST}
    if not ways or last == ways:
        return set()
    before = {node for way in ways for node in _next(way, at)}
    ways |= {node for node in before if _users(node, at) <= ways}
    others = {at[node] for node in at if node not in ways}
    return {at[node] for node in ways} - others


def _is_layer(node: fx.Node, layers: set[str]) -> bool:
    return node.op == "call_module" and str(node.target) in layers


def _next(node: fx.Node, at: dict[fx.Node, str]) -> set[fx.Node]:
    """The layers whose results reach a node's inputs through no other layer."""
    return _nearest(node, at, lambda each: each.all_input_nodes)


def _users(node: fx.Node, at: dict[fx.Node, str]) -> set[fx.Node]:
    """The layers that a node's result reaches through no other layer."""
    return _nearest(node, at, lambda each: list(each.users))


def _nearest(
    node: fx.Node, at: dict[fx.Node, str], neighbours: Callable[[fx.Node], Iterable[fx.Node]]
) -> set[fx.Node]:
    found: set[fx.Node] = set()
    seen: set[fx.Node] = set()
    left = list(neighbours(node))
    while left:
        each = left.pop()
        if each in seen:
            continue
        seen.add(each)
        if each in at:
            found.add(each)
        else:
            left += neighbours(each)
    return found
