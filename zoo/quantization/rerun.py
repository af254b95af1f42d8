"""Computing again the part of a network that lies behind a change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torch import Tensor, fx


def nodes_with(module: fx.GraphModule, parameter: Tensor) -> list[fx.Node]:
    """Return the nodes that compute with a weight, (C, ...), whichever of the layers that share it they call."""
    return [node for node in module.graph.nodes if any(each is parameter for each in _held(module, node))]


def nodes_behind(module: fx.GraphModule, changed: Collection[fx.Node]) -> list[fx.Node]:
    """Return the nodes that change when `changed` do, these included, in the order in which they are computed.

    What the network returns is no value of a node, so the output is not among them.
    """
    behind = set(changed)
    for node in module.graph.nodes:
        if node.op != "output" and not behind.isdisjoint(node.all_input_nodes):
            behind.add(node)
    return [node for node in module.graph.nodes if node in behind]


def rerun(interpreter: fx.Interpreter, nodes: Iterable[fx.Node]) -> dict[fx.Node, Any]:
    """Compute nodes again from the values that a run left behind, and return the new values, (N, ...) if tensors.

    Args:
        interpreter: After a run that kept all values (``garbage_collect_values=False``); they stay as they are.
        nodes: In the order in which they are computed.
    """
    values: dict[fx.Node, Any] = {}

    def load(node: fx.Node) -> Any:
        return values[node] if node in values else interpreter.env[node]

    for node in nodes:
        args, kwargs = fx.map_arg(node.args, load), fx.map_arg(node.kwargs, load)
        values[node] = getattr(interpreter, node.op)(node.target, args, kwargs)
    return values


def _held(module: fx.GraphModule, node: fx.Node) -> Iterator[object]:
    """The parameters that a node computes with."""
    if node.op == "call_module":
        yield from module.get_submodule(str(node.target)).parameters()
    elif node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        yield getattr(module.get_submodule(owner), name)
