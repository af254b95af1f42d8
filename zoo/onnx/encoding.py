"""Parts of an ONNX file in protobuf's wire format, and graphs whose parts are replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zoo.onnx import fields
from zoo.onnx.graph import Graph, Node, ValueInfo
from zoo.onnx.protobuf import Field, Reader, encode_bytes, encode_float, encode_number


def replace(data: bytes, graph: Graph, edits: Mapping[Field, bytes], added: bytes = b"") -> bytes:
    """Return `data` with fields of its main graph replaced, and the fields `added` appended to the graph."""

    def pieces() -> Iterator[bytes]:
        at = graph.place.begin
        for place, new in sorted(edits.items(), key=lambda edit: edit[0].start):
            yield data[at : place.start]
            yield new
            at = place.end
        yield data[at : graph.place.end]
        yield added

    body = encode_bytes(fields.MODEL_GRAPH, b"".join(pieces()))
    return data[: graph.place.start] + body + data[graph.place.end :]


def encode_node(
    operator: str, inputs: Sequence[str], output: str, **attributes: float | Sequence[int]
) -> bytes:
    """Encode a node, named after its one output. Attributes are floats or lists of ints."""
    content = b"".join(encode_bytes(fields.NODE_INPUT, name.encode()) for name in inputs)
    content += encode_bytes(fields.NODE_OUTPUT, output.encode()) + encode_bytes(
        fields.NODE_NAME, output.encode()
    )
    content += encode_bytes(fields.NODE_OPERATOR, operator.encode())
    for name, value in attributes.items():
        part = encode_bytes(fields.ATTRIBUTE_NAME, name.encode())
        if isinstance(value, float):
            part += encode_float(fields.ATTRIBUTE_FLOAT, value) + encode_number(
                fields.ATTRIBUTE_TYPE, fields.TYPE_FLOAT
            )
        else:
            part += b"".join(encode_number(fields.ATTRIBUTE_INTS, each) for each in value)
            part += encode_number(fields.ATTRIBUTE_TYPE, fields.TYPE_INTS)
        content += encode_bytes(fields.NODE_ATTRIBUTE, part)
    return encode_bytes(fields.GRAPH_NODE, content)


def encode_like(
    data: bytes, node: Node, operator: str, inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    """Encode a node with the name and attributes of `node`, which is a part of `data`, and all else as given."""
    content = b"".join(encode_bytes(fields.NODE_INPUT, name.encode()) for name in inputs)
    content += b"".join(encode_bytes(fields.NODE_OUTPUT, name.encode()) for name in outputs)
    content += encode_bytes(fields.NODE_NAME, node.name.encode()) + encode_bytes(
        fields.NODE_OPERATOR, operator.encode()
    )
    parts = Reader(data).message(node.place)
    kept = b"".join(data[part.start : part.end] for part in parts if part.key == fields.NODE_ATTRIBUTE)
    return encode_bytes(fields.GRAPH_NODE, content + kept)


def encode_tensor(name: str, kind: int, dims: Sequence[int], raw: bytes) -> bytes:
    """Encode an initializer; `raw` holds its values in little-endian order."""
    content = b"".join(encode_number(fields.TENSOR_DIMS, side) for side in dims)
    content += encode_number(fields.TENSOR_TYPE, kind) + encode_bytes(fields.TENSOR_NAME, name.encode())
    return encode_bytes(fields.GRAPH_INITIALIZER, content + encode_bytes(fields.TENSOR_RAW, raw))


def encode_model(
    content: bytes, inputs: Sequence[ValueInfo], outputs: Sequence[ValueInfo], *, opset: int, version: int = 8
) -> bytes:
    """Encode a whole file.

    Args:
        content: The nodes and initializers of its graph, encoded one after the other.
        inputs: Inputs of the graph, each with its type and shape.
        outputs: Outputs of the graph, each with its type and shape.
        opset: Version of the standard operators.
        version: Version of the file format.
    """
    graph = encode_bytes(fields.GRAPH_NAME, b"graph") + content
    graph += b"".join(encode_bytes(fields.GRAPH_INPUT, encode_value_info(value)) for value in inputs)
    graph += b"".join(encode_bytes(fields.GRAPH_OUTPUT, encode_value_info(value)) for value in outputs)
    return (
        encode_number(fields.MODEL_VERSION, version)
        + encode_bytes(fields.MODEL_GRAPH, graph)
        + encode_opset("", opset)
    )


def encode_opset(domain: str, version: int) -> bytes:
    """Encode the version of a domain's operators that a file uses; the domain of the standard ones is ""."""
    content = encode_bytes(fields.OPSET_DOMAIN, domain.encode())
    return encode_bytes(fields.MODEL_OPSET, content + encode_number(fields.OPSET_VERSION, version))


def encode_value_info(value: ValueInfo) -> bytes:
    """Encode an input or output of a graph, without the field that holds it."""
    dims = b""
    for side in value.dims or ():
        stated = b"" if side is None else encode_number(fields.DIM_VALUE, side)
        dims += encode_bytes(fields.SHAPE_DIM, stated)
    tensor = encode_number(fields.TENSOR_TYPE_ELEMENT, value.kind or 0)
    if value.dims is not None:
        tensor += encode_bytes(fields.TENSOR_TYPE_SHAPE, dims)
    kind = encode_bytes(fields.VALUE_TYPE, encode_bytes(fields.TYPE_TENSOR, tensor))
    return encode_bytes(fields.VALUE_NAME, value.name.encode()) + kind
