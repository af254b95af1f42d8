"""ONNX files that normalise their input themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from zoo.onnx import fields
from zoo.onnx.encoding import encode_node, encode_tensor, encode_value_info, replace
from zoo.onnx.graph import read_model
from zoo.onnx.protobuf import Reader, encode_bytes


def with_normalisation(data: bytes, mean: Sequence[float], std: Sequence[float]) -> bytes:
    """Return a file that subtracts a mean per channel from its input, and divides by a deviation, before all else.

    Args:
        data: A file that :func:`zoo.onnx.check.check_onnx` has passed, with an input (N, C, H, W) of floats.
        mean: One number per channel.
        std: One number per channel.
    """
    graph = read_model(data)
    constants = {tensor.name for tensor in graph.initializers}
    taken = {name for node in graph.nodes for name in (*node.inputs, *node.outputs)} | constants
    places = [part for part in Reader(data).message(graph.place) if part.key == fields.GRAPH_INPUT]
    place, source = next(
        (place, value)
        for place, value in zip(places, graph.inputs, strict=True)
        if value.name not in constants
    )

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    image, centred, mean_name, std_name = map(free, ("image", "centred_image", "image_mean", "image_std"))
    nodes = encode_node("Sub", [image, mean_name], centred) + encode_node(
        "Div", [centred, std_name], source.name
    )
    tensors = b"".join(
        encode_tensor(name, source.kind or 1, (1, len(values), 1, 1), np.asarray(values, "<f4").tobytes())
        for name, values in ((mean_name, mean), (std_name, std))
    )
    first = graph.nodes[0].place
    # some exporters write -1 for a side that is open
    dims = source.dims and [None if side is None or side < 0 else side for side in source.dims]
    stated = dataclasses.replace(source, name=image, dims=dims)
    renamed = encode_bytes(fields.GRAPH_INPUT, encode_value_info(stated))
    return replace(data, graph, {place: renamed, first: nodes + data[first.start : first.end]}, tensors)
