"""Graphs inside the operators of a graph: the branches of an If, the body of a Loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


def every_graph(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and all graphs inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from every_graph(attribute.g)


def every_node(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph and of the graphs inside it."""
    for each in every_graph(graph):
        yield from each.node


def read_values(graph: GraphProto) -> set[str]:
    """Return the names of the values that the nodes of a graph read, and those that it and the graphs inside return."""
    read = {name for node in every_node(graph) for name in node.input}
    return read | {value.name for each in every_graph(graph) for value in each.output}


def rename_read(graph: GraphProto, new: Mapping[str, str]) -> None:
    """Let nodes, and the graphs inside, read values under their new names."""
    for node in every_node(graph):
        for index, name in enumerate(node.input):
            node.input[index] = new.get(name, name)
    for inner in every_graph(graph):
        if inner is not graph:
            for value in inner.output:
                value.name = new.get(value.name, value.name)
