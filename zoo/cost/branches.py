"""An ONNX graph whose branches are part of it: what they hold can then be counted like anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def inline_branches(model: ModelProto) -> None:
    """Put the nodes of all branches of each `If` in its place, in the given model.

    The result computes both branches, and passes the last one's results on. Values of a branch are renamed, since
    those of the other may have the same names.
    """
    graph = model.graph
    while any(node.op_type == "If" for node in graph.node):
        nodes: list[NodeProto] = []
        for number, node in enumerate(graph.node):
            if node.op_type != "If":
                nodes.append(_copied(node))
                continue
            for attribute in node.attribute:
                nodes += _renamed(attribute.g, graph, f"{number}/{attribute.name}/", node.output)
        last = {name: place for place, node in enumerate(nodes) for name in node.output}
        kept = [node for place, node in enumerate(nodes) if not node.output or last[node.output[0]] == place]
        del graph.node[:]
        graph.node.extend(kept)


def _renamed(branch: GraphProto, graph: GraphProto, prefix: str, results: list[str]) -> list[NodeProto]:
    """The nodes of a branch with new names for its own values; its constants are added to the graph around it."""
    from onnx import helper

    own = [name for node in branch.node for name in node.output if name]
    new = {name: prefix + name for name in (*own, *(tensor.name for tensor in branch.initializer))}
    for tensor in branch.initializer:
        added = graph.initializer.add()
        added.CopyFrom(tensor)
        added.name = new[tensor.name]
    nodes = [_copied(node) for node in branch.node]
    for node in nodes:
        _rename(node, new)
    ends = zip(branch.output, results, strict=True)
    return [
        *nodes,
        *(helper.make_node("Identity", [new.get(end.name, end.name)], [result]) for end, result in ends),
    ]


def _rename(node: NodeProto, new: dict[str, str]) -> None:
    for names in (node.input, node.output):
        names[:] = [new.get(name, name) for name in names]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            inner = attribute.g
            for each in inner.node:
                _rename(each, new)
            for value in inner.output:
                value.name = new.get(value.name, value.name)


def _copied(node: NodeProto) -> NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
