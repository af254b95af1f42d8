"""What must be known of an ONNX file before an engine loads it, found without the onnx package.

:func:`check_model` refuses files that reach outside themselves or hold operators that are not standard.
:func:`read_model` gives the graph's nodes and small tensors with their places, and :func:`replace` puts other
bytes there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zoo.engines.protobuf import Field, Reader, encode_bytes, encode_float, encode_number
from zoo.errors import IntegrityError

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO, _GRAPH_SPARSE = 1, 5, 12, 13, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 3, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING = 1, 2, 3, 4
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_INTS = 5, 6, 8
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_TYPE, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = (
    10,
    11,
    20,
    22,
    23,
)
_TYPE_FLOAT, _TYPE_INTS = 1, 7
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_INT32, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 5, 8, 9
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
UINT8, INT8, INT64 = 2, 3, 7
_STANDARD = ("", "ai.onnx")
#: Graphs inside graphs (the branches of an If): deeper than this is no network.
_MAX_DEPTH = 8


@dataclass
class Node:
    """A node. `attributes` holds integers and strings; None stands for a value of another type."""

    place: Field
    name: str = ""
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, int | str | None] = field(default_factory=dict)


@dataclass
class Tensor:
    """An initializer. `raw` and `int32` are filled for tensors of one element only."""

    place: Field
    name: str = ""
    type: int = 0
    dims: list[int] = field(default_factory=list)
    raw: bytes | None = None
    int32: list[int] = field(default_factory=list)

    def int8_value(self) -> int | None:
        """The value of a tensor that holds exactly one int8, else None."""
        if self.type != INT8 or any(side != 1 for side in self.dims):
            return None
        if self.raw is not None and len(self.raw) == 1 and not self.int32:
            return int.from_bytes(self.raw, "little", signed=True)
        if self.raw is None and len(self.int32) == 1:
            value = self.int32[0] - (1 << 64 if self.int32[0] >> 63 else 0)
            return value if -128 <= value <= 127 else None
        return None


@dataclass
class Graph:
    """The main graph. `nested` tells whether a node holds graphs of its own."""

    place: Field
    nodes: list[Node] = field(default_factory=list)
    initializers: list[Tensor] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    value_infos: list[Field] = field(default_factory=list)
    nested: bool = False


def check_model(data: bytes) -> None:
    """Raise IntegrityError unless `data` is a well-formed ONNX model that an engine may load.

    Refused: data outside the file, operators of domains other than ONNX's own, functions, training graphs.
    """
    read_model(data)


def read_model(data: bytes) -> Graph:
    """The main graph of a model; raises IntegrityError as :func:`check_model` does."""
    reader = Reader(data)
    graph: Graph | None = None
    for part in reader.fields(0, len(data)):
        if part.key == _MODEL_GRAPH:
            if graph is not None:
                raise IntegrityError("The model file is damaged: it holds two graphs.")
            graph = _read_graph(reader, part, 0)
        elif part.key == _MODEL_OPSET:
            for entry in reader.message(part):
                if entry.key == 1 and reader.text(entry) not in _STANDARD:
                    raise _foreign(reader.text(entry))
        elif part.key in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise IntegrityError("The model file defines functions or training steps; zoo's files have none.")
    if graph is None:
        raise IntegrityError("The model file is damaged: it holds no graph.")
    return graph


def _foreign(domain: str) -> IntegrityError:
    return IntegrityError(f"The model file uses operators of '{domain[:60]}', which is not standard ONNX.")


def _read_graph(reader: Reader, place: Field, depth: int) -> Graph:
    if depth > _MAX_DEPTH:
        raise IntegrityError("The model file nests graphs too deeply.")
    graph = Graph(place)
    for part in reader.message(place):
        if part.key == _GRAPH_NODE:
            graph.nodes.append(_read_node(reader, part, graph, depth))
        elif part.key == _GRAPH_INITIALIZER:
            graph.initializers.append(_read_tensor(reader, part))
        elif part.key == _GRAPH_SPARSE:
            _read_sparse(reader, part)
        elif part.key == _GRAPH_VALUE_INFO:
            graph.value_infos.append(part)
        elif part.key == _GRAPH_OUTPUT:
            graph.outputs += [reader.text(entry) for entry in reader.message(part) if entry.key == 1]
    return graph


def _read_node(reader: Reader, place: Field, graph: Graph, depth: int) -> Node:
    node = Node(place)
    for part in reader.message(place):
        if part.key == _NODE_INPUT:
            node.inputs.append(reader.text(part))
        elif part.key == _NODE_OUTPUT:
            node.outputs.append(reader.text(part))
        elif part.key == _NODE_OPERATOR:
            node.operator = reader.text(part)
        elif part.key == _NODE_DOMAIN and reader.text(part) not in _STANDARD:
            raise _foreign(reader.text(part))
        elif part.key == _NODE_ATTRIBUTE:
            name, value = _read_attribute(reader, part, graph, depth)
            node.attributes[name] = value
        elif part.key == _NODE_NAME:
            node.name = reader.text(part)
    return node


def _read_attribute(reader: Reader, place: Field, graph: Graph, depth: int) -> tuple[str, int | str | None]:
    name = ""
    value: int | str | None = None
    for part in reader.message(place):
        if part.key == _ATTRIBUTE_NAME:
            name = reader.text(part)
        elif part.key == _ATTRIBUTE_INT:
            value = reader.value(part)
        elif part.key == _ATTRIBUTE_STRING:
            value = reader.content(part).decode(errors="replace")
        elif part.key in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _read_tensor(reader, part)
        elif part.key in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
            _read_sparse(reader, part)
        elif part.key in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            _read_graph(reader, part, depth + 1)
            graph.nested = True
    return name, value


def _read_sparse(reader: Reader, place: Field) -> None:
    for part in reader.message(place):
        if part.key in (1, 2):  # values and indices are tensors
            _read_tensor(reader, part)


def _read_tensor(reader: Reader, place: Field) -> Tensor:
    tensor = Tensor(place)
    for part in reader.message(place):
        if part.key == _TENSOR_EXTERNAL or (part.key == _TENSOR_LOCATION and reader.value(part) != 0):
            raise IntegrityError("The model file keeps data in other files, which zoo does not load.")
        if part.key == _TENSOR_NAME:
            tensor.name = reader.text(part)
        elif part.key == _TENSOR_TYPE:
            tensor.type = reader.value(part)
        elif part.key == _TENSOR_DIMS:
            tensor.dims += reader.values(part)
        elif part.key == _TENSOR_RAW:
            tensor.raw = reader.content(part) if part.end - part.begin == 1 else b""
        elif part.key == _TENSOR_INT32 and part.end - part.begin <= 10:
            tensor.int32 += reader.values(part)
    return tensor


def replace(data: bytes, graph: Graph, edits: Mapping[Field, bytes], added: bytes = b"") -> bytes:
    """`data` with fields of its main graph replaced, and fields `added` to the graph."""

    def pieces() -> Iterator[bytes]:
        at = graph.place.begin
        for place, new in sorted(edits.items(), key=lambda edit: edit[0].start):
            yield data[at : place.start]
            yield new
            at = place.end
        yield data[at : graph.place.end]
        yield added

    body = encode_bytes(_MODEL_GRAPH, b"".join(pieces()))
    return data[: graph.place.start] + body + data[graph.place.end :]


def encode_node(
    operator: str, inputs: Sequence[str], output: str, **attributes: float | Sequence[int]
) -> bytes:
    """A node of a graph in wire form, named after its one output. Attributes are floats or lists of ints."""
    content = b"".join(encode_bytes(_NODE_INPUT, name.encode()) for name in inputs)
    content += encode_bytes(_NODE_OUTPUT, output.encode()) + encode_bytes(_NODE_NAME, output.encode())
    content += encode_bytes(_NODE_OPERATOR, operator.encode())
    for name, value in attributes.items():
        part = encode_bytes(_ATTRIBUTE_NAME, name.encode())
        if isinstance(value, float):
            part += encode_float(_ATTRIBUTE_FLOAT, value) + encode_number(_ATTRIBUTE_TYPE, _TYPE_FLOAT)
        else:
            part += b"".join(encode_number(_ATTRIBUTE_INTS, each) for each in value)
            part += encode_number(_ATTRIBUTE_TYPE, _TYPE_INTS)
        content += encode_bytes(_NODE_ATTRIBUTE, part)
    return encode_bytes(_GRAPH_NODE, content)


def encode_tensor(name: str, kind: int, dims: Sequence[int], raw: bytes) -> bytes:
    """An initializer of a graph in wire form; `raw` holds its values in little-endian order."""
    content = b"".join(encode_number(_TENSOR_DIMS, side) for side in dims)
    content += encode_number(_TENSOR_TYPE, kind) + encode_bytes(_TENSOR_NAME, name.encode())
    return encode_bytes(_GRAPH_INITIALIZER, content + encode_bytes(_TENSOR_RAW, raw))
