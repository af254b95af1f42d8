"""Questions about a traced network (shapes, layers, paths of data), and small changes to it.

Shapes are known after :func:`zoo.surgery.trace` or :func:`zoo.surgery.propagate_shapes`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import fx, nn

#: Ways to write the sum of two tensors and their concatenation.
SUM_OPERATORS: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
CONCAT_OPERATORS: frozenset[Any] = frozenset({torch.cat, torch.concat, torch.concatenate})


def shape_of(node: fx.Node) -> torch.Size | None:
    """Return the shape of a node's tensor; None if its value is not one tensor."""
    meta = node.meta.get("tensor_meta")
    return cast(torch.Size, meta.shape) if meta is not None and hasattr(meta, "dtype") else None


def area_of(node: fx.Node) -> int | None:
    """Return H * W of a node whose value is (N, C, H, W); None for any other."""
    shape = shape_of(node)
    return int(shape[2] * shape[3]) if shape is not None and len(shape) == 4 else None


def layer_of(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls; None if it calls none."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def calls_of(module: fx.GraphModule, layer: nn.Module) -> list[fx.Node]:
    """Return the nodes that call a layer, under any of its names, in order."""
    return [node for node in module.graph.nodes if layer_of(module, node) is layer]


def concatenated_inputs(node: fx.Node) -> list[fx.Node] | None:
    """Return the tensors that a node concatenates along the channels; None for any other node."""
    if node.op != "call_function" or node.target not in CONCAT_OPERATORS or not node.args:
        return None
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
    parts = node.args[0]
    shape = shape_of(node)
    if shape is None or not isinstance(axis, int) or axis % len(shape) != 1:
        return None
    if not isinstance(parts, (tuple, list)) or not all(isinstance(part, fx.Node) for part in parts):
        return None
    return cast("list[fx.Node]", list(parts))


def summed_inputs(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """Return the two tensors of equal shape that a node adds; None for any other node."""
    if node.op not in ("call_function", "call_method") or node.target not in SUM_OPERATORS:
        return None
    if len(node.args) != 2 or node.kwargs or not all(isinstance(arg, fx.Node) for arg in node.args):
        return None
    first, second = cast("tuple[fx.Node, fx.Node]", node.args)
    shape = shape_of(first)
    return (first, second) if shape is not None and shape == shape_of(second) else None


class DataFlow:
    """The paths of data through a traced network: dominators, post-dominators and dependencies of its nodes.

    Nodes that do not depend on the network's input (weights, sizes) are not part of it.

    Attributes:
        nodes: The nodes that hold data, in order of execution.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.nodes = [node for node in module.graph.nodes if node.op == "output" or _gives_data(node)]
        self._index = {node: i for i, node in enumerate(self.nodes)}
        reached: set[fx.Node] = set()
        for node in self.nodes:
            if node.op == "placeholder" or any(source in reached for source in node.all_input_nodes):
                reached.add(node)
        self._sources = {n: [s for s in n.all_input_nodes if s in reached] for n in self.nodes}
        self._users = {n: [u for u in n.users if u in self._index] for n in self.nodes}
        self._before = self._common(self.nodes, self._sources)
        self._after = self._common(reversed(self.nodes), self._users)
        self._upstream = self._all(self.nodes, self._sources)

    def _common(self, order: Iterable[fx.Node], edges: dict[fx.Node, list[fx.Node]]) -> dict[fx.Node, int]:
        """A bit set of nodes for each node: those on every path along `edges`, itself among them."""
        found: dict[fx.Node, int] = {}
        for node in order:
            met = -1
            for other in edges[node]:
                met &= found[other]
            found[node] = (met if edges[node] else 0) | 1 << self._index[node]
        return found

    def _all(self, order: Iterable[fx.Node], edges: dict[fx.Node, list[fx.Node]]) -> dict[fx.Node, int]:
        found: dict[fx.Node, int] = {}
        for node in order:
            met = 1 << self._index[node]
            for other in edges[node]:
                met |= found[other]
            found[node] = met
        return found

    def _unpack(self, bits: int) -> list[fx.Node]:
        return [node for node, index in self._index.items() if bits >> index & 1]

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes whose data a node reads."""
        return self._sources[node]

    def common_dominators(self, nodes: Iterable[fx.Node]) -> list[fx.Node]:
        """Return the nodes, in order, that every path from the input to any of `nodes` passes through."""
        return self._unpack(_intersection(self._before[node] for node in nodes))

    def common_post_dominators(self, nodes: Iterable[fx.Node]) -> list[fx.Node]:
        """Return the nodes, in order, that every path from any of `nodes` to the output passes through."""
        return self._unpack(_intersection(self._after[node] for node in nodes))

    def depends_on(self, node: fx.Node, source: fx.Node) -> bool:
        """Return whether data flows from `source` to `node`; a node depends on itself."""
        return bool(self._upstream[node] >> self._index[source] & 1)

    def between(self, start: fx.Node, end: fx.Node) -> list[fx.Node]:
        """Return the nodes on the paths from `start` to `end`, in order, without these two."""
        return [
            node
            for node in self.nodes
            if node not in (start, end) and self.depends_on(node, start) and self.depends_on(end, node)
        ]


def _intersection(sets: Iterable[int]) -> int:
    met = -1
    for each in sets:
        met &= each
    return met


def _gives_data(node: fx.Node) -> bool:
    """Whether a node gives a tensor, or several."""
    meta = node.meta.get("tensor_meta")
    if meta is None or node.op == "get_attr":
        return False
    return hasattr(meta, "dtype") or (
        isinstance(meta, (tuple, list)) and any(hasattr(m, "dtype") for m in meta)
    )


def clean_up_graph(module: fx.GraphModule) -> None:
    """Remove unused nodes and the modules that only they called, then check and compile the graph."""
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.graph.lint()
    module.recompile()


def unused_name(module: fx.GraphModule, wanted: str) -> str:
    """Return `wanted`, with a number appended if a module or an attribute has that name already."""
    name, number = wanted, 1
    known = {path for path, _ in module.named_modules()}
    while name in known or hasattr(module, name):
        number += 1
        name = f"{wanted}_{number}"
    return name


def insert_after(module: fx.GraphModule, node: fx.Node, name: str, layer: nn.Module) -> fx.Node:
    """Call a new module on a node's value; all users of the node read the result instead.

    The new node takes over the node's shape: where the module changes it, run :func:`zoo.surgery.propagate_shapes`.

    Args:
        module: The graph, changed in place; compile it with ``module.recompile()`` afterwards.
        node: The node whose value is passed on.
        name: The name for the new module; see :func:`unused_name`.
        layer: The module to call.

    Returns:
        The node of the new call.
    """
    name = unused_name(module, name)
    module.add_submodule(name, layer)
    with module.graph.inserting_after(node):
        new = module.graph.call_module(name, (node,))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    return new
