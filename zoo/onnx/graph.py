"""What an ONNX file holds, found without the onnx package, and other bytes put in its places.

:func:`read_model` gives the graph's nodes, and sizes and places of its tensors; it refuses files that are not well
formed, reach outside themselves, or hold operators that are not standard. :mod:`zoo.onnx.check` refuses
more of files from outside. :func:`replace` puts other bytes in places of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zoo.errors import IntegrityError
from zoo.onnx.protobuf import Field, Reader, encode_bytes, encode_float, encode_number

# Field numbers of onnx.proto.
_MODEL_VERSION, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 1, 7, 8, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO, _GRAPH_SPARSE = (
    1, 5, 11, 12, 13, 15,
)  # fmt: skip
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 3, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING = 1, 2, 3, 4
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_INTS = 5, 6, 8
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_TYPE, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = (
    10, 11, 20, 22, 23,
)  # fmt: skip
_TYPE_FLOAT, _TYPE_INTS = 1, 7
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_SEGMENT, _TENSOR_INT32, _TENSOR_STRING, _TENSOR_INT64 = 1, 2, 3, 5, 6, 7
_TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 9, 13, 14
#: Lists of numbers: bytes of each, 0 for numbers of varying length.
_TENSOR_NUMBERS = {4: 4, _TENSOR_INT32: 0, _TENSOR_INT64: 0, 10: 8, 11: 0}
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_TYPE_ELEMENT, _TENSOR_TYPE_SHAPE = 1, 2, 1, 1, 2
_SHAPE_DIM, _DIM_VALUE = 1, 1
FLOAT, UINT8, INT8, INT64, INT4 = 1, 2, 3, 7, 22
_STANDARD = ("", "ai.onnx")
#: Graphs inside graphs (the branches of an If): deeper than this is no network.
_MAX_DEPTH = 8
_MOST_PARTS = 50_000
_MOST_AXES = 64
#: Tensors of no more bytes are kept: scales, zero points, shapes.
_SMALL = 512


@dataclass
class Tensor:
    """An initializer or the constant in an attribute.

    dims: not negative. content: where its bytes lie, None if numbers are listed instead; listed: how many are.
    raw: the bytes, and int32, int64: the numbers, of small tensors only.
    """

    place: Field
    name: str = ""
    type: int = 0
    dims: list[int] = field(default_factory=list)
    content: Field | None = None
    listed: int = 0
    raw: bytes | None = None
    int32: list[int] = field(default_factory=list)
    int64: list[int] = field(default_factory=list)

    def int8_value(self) -> int | None:
        """The value of a tensor that holds exactly one int8, else None."""
        if self.type != INT8 or any(side != 1 for side in self.dims):
            return None
        if self.raw is not None and len(self.raw) == 1 and not self.int32:
            return int.from_bytes(self.raw, "little", signed=True)
        if self.raw is None and len(self.int32) == 1:
            value = _signed(self.int32[0])
            return value if -128 <= value <= 127 else None
        return None

    def int64_values(self) -> list[int]:
        """The numbers of a small tensor of int64; empty for any other."""
        if self.type != INT64:
            return []
        if self.raw is None:
            return [_signed(value) for value in self.int64]
        ends = range(8, len(self.raw) + 1, 8)
        return [int.from_bytes(self.raw[end - 8 : end], "little", signed=True) for end in ends]


@dataclass
class ValueInfo:
    """An input or output of a graph.

    kind: of its elements, None unless it is a tensor. dims: sides, None where they may vary; None if not stated.
    """

    name: str = ""
    kind: int | None = None
    dims: list[int | None] | None = None


@dataclass
class Node:
    """A node. `attributes` holds integers and strings; None stands for a value of another type."""

    place: Field
    name: str = ""
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, int | str | None] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)


@dataclass
class Graph:
    """A graph. opset and version (of the format) are those of the file; 0 if it states none."""

    place: Field
    nodes: list[Node] = field(default_factory=list)
    initializers: list[Tensor] = field(default_factory=list)
    inputs: list[ValueInfo] = field(default_factory=list)
    results: list[ValueInfo] = field(default_factory=list)
    value_infos: list[Field] = field(default_factory=list)
    opset: int = 0
    version: int = 0

    @property
    def outputs(self) -> list[str]:
        """Names of the results."""
        return [value.name for value in self.results]

    @property
    def nested(self) -> bool:
        """Whether a node holds graphs of its own."""
        return any(node.graphs for node in self.nodes)


def read_model(data: bytes) -> Graph:
    """The main graph of a model.

    Raises IntegrityError for what is not well formed, for data outside the file or in sparse form, operators of
    domains other than ONNX's own, functions, and training graphs.
    """
    reader = Reader(data)
    graph: Graph | None = None
    opset = version = 0
    for part in reader.fields(0, len(data)):
        if part.key == _MODEL_GRAPH:
            if graph is not None:
                raise IntegrityError("The model file is damaged: it holds two graphs.")
            graph = _read_graph(reader, part, 0)
        elif part.key == _MODEL_OPSET:
            stated = _read_opset(reader, part)
            if opset:
                raise IntegrityError("The model file is damaged: it states two operator sets.")
            opset = stated
        elif part.key == _MODEL_VERSION:
            version = reader.value(part)
        elif part.key in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise IntegrityError("The model file defines functions or training steps; zoo's files have none.")
    if graph is None:
        raise IntegrityError("The model file is damaged: it holds no graph.")
    graph.opset, graph.version = opset, version
    return graph


def _foreign(domain: str) -> IntegrityError:
    return IntegrityError(f"The model file uses operators of {domain[:60]!a}, which is not standard ONNX.")


def _read_opset(reader: Reader, place: Field) -> int:
    version = 0
    for part in reader.message(place):
        if part.key == 1 and reader.text(part) not in _STANDARD:
            raise _foreign(reader.text(part))
        if part.key == 2:
            version = reader.value(part)
    return version


def _read_graph(reader: Reader, place: Field, depth: int) -> Graph:
    if depth > _MAX_DEPTH:
        raise IntegrityError("The model file nests graphs too deeply.")
    graph = Graph(place)
    for part in reader.message(place):
        if max(len(graph.nodes), len(graph.initializers)) > _MOST_PARTS:
            raise IntegrityError(f"The model file has more than {_MOST_PARTS:,} nodes or tensors.")
        if part.key == _GRAPH_NODE:
            graph.nodes.append(_read_node(reader, part, depth))
        elif part.key == _GRAPH_INITIALIZER:
            graph.initializers.append(_read_tensor(reader, part))
        elif part.key == _GRAPH_SPARSE:
            raise _sparse()
        elif part.key == _GRAPH_VALUE_INFO:
            graph.value_infos.append(part)
        elif part.key == _GRAPH_INPUT:
            graph.inputs.append(_read_value(reader, part))
        elif part.key == _GRAPH_OUTPUT:
            graph.results.append(_read_value(reader, part))
    return graph


def _sparse() -> IntegrityError:
    return IntegrityError("The model file holds sparse tensors; zoo's files have none.")


def _read_node(reader: Reader, place: Field, depth: int) -> Node:
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
            _read_attribute(reader, part, node, depth)
        elif part.key == _NODE_NAME:
            node.name = reader.text(part)
    return node


def _read_attribute(reader: Reader, place: Field, node: Node, depth: int) -> None:
    name = ""
    value: int | str | None = None
    for part in reader.message(place):
        if part.key == _ATTRIBUTE_NAME:
            name = reader.text(part)
        elif part.key == _ATTRIBUTE_INT:
            value = _signed(reader.value(part))
        elif part.key == _ATTRIBUTE_STRING:
            value = reader.content(part).decode(errors="replace")
        elif part.key in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            node.tensors.append(_read_tensor(reader, part))
        elif part.key in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
            raise _sparse()
        elif part.key in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            node.graphs.append(_read_graph(reader, part, depth + 1))
    node.attributes[name] = value


def _read_tensor(reader: Reader, place: Field) -> Tensor:
    tensor = Tensor(place)
    for part in reader.message(place):
        size = part.end - part.begin
        if part.key == _TENSOR_EXTERNAL or (part.key == _TENSOR_LOCATION and reader.value(part) != 0):
            raise IntegrityError("The model file keeps data in other files, which zoo does not load.")
        if part.key in (_TENSOR_SEGMENT, _TENSOR_STRING):
            raise IntegrityError("The model file holds a tensor in pieces or of text; zoo's files have none.")
        if part.key == _TENSOR_NAME:
            tensor.name = reader.text(part)
        elif part.key == _TENSOR_TYPE:
            tensor.type = reader.value(part)
        elif part.key == _TENSOR_DIMS:
            if len(tensor.dims) + reader.count(part, 0) > _MOST_AXES:
                raise IntegrityError("The model file is damaged: a tensor has too many axes.")
            tensor.dims += (_signed(side) for side in reader.values(part))
        elif part.key == _TENSOR_RAW:
            if tensor.content is not None:
                raise IntegrityError("The model file is damaged: it holds the data of a tensor twice.")
            tensor.content = part
            tensor.raw = reader.content(part) if size <= _SMALL else b""
        elif part.key in _TENSOR_NUMBERS:
            tensor.listed += reader.count(part, _TENSOR_NUMBERS[part.key])
            if part.key in (_TENSOR_INT32, _TENSOR_INT64) and size <= _SMALL and tensor.listed <= _SMALL:
                numbers = tensor.int32 if part.key == _TENSOR_INT32 else tensor.int64
                numbers += reader.values(part)
    if any(side < 0 for side in tensor.dims):
        raise IntegrityError("The model file is damaged: a tensor has a negative side.")
    return tensor


def _read_value(reader: Reader, place: Field) -> ValueInfo:
    value = ValueInfo()
    for part in reader.message(place):
        if part.key == _VALUE_NAME:
            value.name = reader.text(part)
        elif part.key == _VALUE_TYPE:
            for kind in reader.message(part):
                if kind.key == _TYPE_TENSOR:
                    _read_tensor_type(reader, kind, value)
    return value


def _read_tensor_type(reader: Reader, place: Field, value: ValueInfo) -> None:
    for part in reader.message(place):
        if part.key == _TENSOR_TYPE_ELEMENT:
            value.kind = reader.value(part)
        elif part.key == _TENSOR_TYPE_SHAPE:
            value.dims = []
            for dim in reader.message(part):
                if dim.key == _SHAPE_DIM:
                    stated = [
                        _signed(reader.value(each)) for each in reader.message(dim) if each.key == _DIM_VALUE
                    ]
                    value.dims.append(stated[-1] if stated else None)


def _signed(number: int) -> int:
    """A varint as the signed number of 64 bits that it stands for."""
    return number - (1 << 64) if number >> 63 else number


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


def encode_like(
    data: bytes, node: Node, operator: str, inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    """A node with the name and attributes of `node`, which lies in `data`, and another operator and other values."""
    content = b"".join(encode_bytes(_NODE_INPUT, name.encode()) for name in inputs)
    content += b"".join(encode_bytes(_NODE_OUTPUT, name.encode()) for name in outputs)
    content += encode_bytes(_NODE_NAME, node.name.encode()) + encode_bytes(_NODE_OPERATOR, operator.encode())
    parts = Reader(data).message(node.place)
    kept = b"".join(data[part.start : part.end] for part in parts if part.key == _NODE_ATTRIBUTE)
    return encode_bytes(_GRAPH_NODE, content + kept)


def encode_tensor(name: str, kind: int, dims: Sequence[int], raw: bytes) -> bytes:
    """An initializer of a graph in wire form; `raw` holds its values in little-endian order."""
    content = b"".join(encode_number(_TENSOR_DIMS, side) for side in dims)
    content += encode_number(_TENSOR_TYPE, kind) + encode_bytes(_TENSOR_NAME, name.encode())
    return encode_bytes(_GRAPH_INITIALIZER, content + encode_bytes(_TENSOR_RAW, raw))
