"""The graph of an ONNX file, read without the onnx package.

:func:`read_model` returns the graph's nodes and the sizes and places of its tensors. It refuses files that are
malformed, refer to other files, or use operators that are not standard; :mod:`zoo.onnx.check` checks untrusted files
further, and :mod:`zoo.onnx.encoding` replaces parts of a graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from zoo.errors import IntegrityError
from zoo.onnx import fields
from zoo.onnx.fields import INT8, INT64, UINT8
from zoo.onnx.protobuf import Field, Reader

_STANDARD = ("", "ai.onnx")
#: Graphs inside graphs (the branches of an If): no network is nested deeper.
_MAX_DEPTH = 8
_MOST_PARTS = 50_000
_MOST_AXES = 64
#: Numbers in a list among the attributes of a node: two for each axis, as pads have.
_LONGEST_LIST = 2 * _MOST_AXES
#: Tensors of no more bytes are kept: scales, zero points, shapes.
_SMALL = 512

Attribute: TypeAlias = "int | str | list[int] | None"


@dataclass
class Tensor:
    """An initializer or the constant in an attribute.

    Attributes:
        dims: Not negative.
        content: Where its bytes lie, None if numbers are listed instead.
        listed: How many numbers are listed.
        raw: The bytes, of small tensors only.
        int32: The numbers, of small tensors only.
        int64: The numbers, of small tensors only.
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
        """Return the value of a tensor that holds exactly one int8, else None."""
        return self._byte(-128) if self.type == INT8 else None

    def uint8_value(self) -> int | None:
        """Return the value of a tensor that holds exactly one uint8, else None."""
        return self._byte(0) if self.type == UINT8 else None

    def _byte(self, lowest: int) -> int | None:
        if any(side != 1 for side in self.dims):
            return None
        if self.raw is not None and len(self.raw) == 1 and not self.int32:
            return int.from_bytes(self.raw, "little", signed=lowest < 0)
        if self.raw is None and len(self.int32) == 1:
            value = _signed(self.int32[0])
            return value if lowest <= value <= lowest + 255 else None
        return None

    def int64_values(self) -> list[int]:
        """Return the numbers of a small tensor of int64; empty for any other."""
        if self.type != INT64:
            return []
        if self.raw is None:
            return [_signed(value) for value in self.int64]
        ends = range(8, len(self.raw) + 1, 8)
        return [int.from_bytes(self.raw[end - 8 : end], "little", signed=True) for end in ends]


@dataclass
class ValueInfo:
    """An input or output of a graph.

    Attributes:
        kind: Of its elements, None unless it is a tensor.
        dims: Sides, None where they may vary; None if not stated.
    """

    name: str = ""
    kind: int | None = None
    dims: list[int | None] | None = None


@dataclass
class Node:
    """A node.

    Attributes:
        attributes: Integers, strings and lists of integers by name. None stands for a value of another type, and for
            a list of more than 128 numbers.
        tensors: Tensors among its attributes.
        graphs: Graphs among its attributes: the branches of an If, for instance.
    """

    place: Field
    name: str = ""
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)


@dataclass
class Graph:
    """A graph.

    Attributes:
        opset: Of the file; 0 if it states none.
        version: Of the file's format; 0 if it states none.
    """

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
        """Return the names of the results."""
        return [value.name for value in self.results]

    @property
    def nested(self) -> bool:
        """Return whether a node holds graphs of its own."""
        return any(node.graphs for node in self.nodes)


def read_model(data: bytes) -> Graph:
    """Return the main graph of a model.

    Raises:
        IntegrityError: The model is not well formed, keeps data outside the file or in sparse form, or holds
            operators of other domains than ONNX's own, functions, or training graphs.
    """
    reader = Reader(data)
    graph: Graph | None = None
    opset = version = 0
    for part in reader.fields(0, len(data)):
        if part.key == fields.MODEL_GRAPH:
            if graph is not None:
                raise IntegrityError("The model file is damaged: it holds two graphs.")
            graph = _read_graph(reader, part, 0)
        elif part.key == fields.MODEL_OPSET:
            stated = _read_opset(reader, part)
            if opset:
                raise IntegrityError("The model file is damaged: it states two operator sets.")
            opset = stated
        elif part.key == fields.MODEL_VERSION:
            version = reader.value(part)
        elif part.key in (fields.MODEL_FUNCTIONS, fields.MODEL_TRAINING):
            raise IntegrityError(
                "The model file defines functions or training steps, which zoo does not support."
            )
    if graph is None:
        raise IntegrityError("The model file is damaged: it holds no graph.")
    graph.opset, graph.version = opset, version
    return graph


def _foreign(domain: str, operator: str = "") -> IntegrityError:
    which = f"the operator {operator[:60]!a}" if operator else "operators"
    return IntegrityError(f"The model file uses {which} of {domain[:60]!a}, which is not standard ONNX.")


def _read_opset(reader: Reader, place: Field) -> int:
    version = 0
    for part in reader.message(place):
        if part.key == fields.OPSET_DOMAIN and reader.text(part) not in _STANDARD:
            raise _foreign(reader.text(part))
        if part.key == fields.OPSET_VERSION:
            version = reader.value(part)
    return version


def _read_graph(reader: Reader, place: Field, depth: int) -> Graph:
    if depth > _MAX_DEPTH:
        raise IntegrityError("The model file nests graphs too deeply.")
    graph = Graph(place)
    for part in reader.message(place):
        if max(len(graph.nodes), len(graph.initializers)) > _MOST_PARTS:
            raise IntegrityError(f"The model file has more than {_MOST_PARTS:,} nodes or tensors.")
        if part.key == fields.GRAPH_NODE:
            graph.nodes.append(_read_node(reader, part, depth))
        elif part.key == fields.GRAPH_INITIALIZER:
            graph.initializers.append(_read_tensor(reader, part))
        elif part.key == fields.GRAPH_SPARSE:
            raise _sparse()
        elif part.key == fields.GRAPH_VALUE_INFO:
            graph.value_infos.append(part)
        elif part.key == fields.GRAPH_INPUT:
            graph.inputs.append(_read_value(reader, part))
        elif part.key == fields.GRAPH_OUTPUT:
            graph.results.append(_read_value(reader, part))
    return graph


def _sparse() -> IntegrityError:
    return IntegrityError("The model file contains sparse tensors, which zoo does not support.")


def _read_node(reader: Reader, place: Field, depth: int) -> Node:
    node, domain = Node(place), ""
    for part in reader.message(place):
        if part.key == fields.NODE_INPUT:
            node.inputs.append(reader.text(part))
        elif part.key == fields.NODE_OUTPUT:
            node.outputs.append(reader.text(part))
        elif part.key == fields.NODE_OPERATOR:
            node.operator = reader.text(part)
        elif part.key == fields.NODE_DOMAIN:
            domain = reader.text(part)
        elif part.key == fields.NODE_ATTRIBUTE:
            _read_attribute(reader, part, node, depth)
        elif part.key == fields.NODE_NAME:
            node.name = reader.text(part)
    if domain not in _STANDARD:
        raise _foreign(domain, node.operator)
    return node


def _read_attribute(reader: Reader, place: Field, node: Node, depth: int) -> None:
    name = ""
    value: Attribute = None
    numbers: list[int] = []
    listed = 0
    for part in reader.message(place):
        if part.key == fields.ATTRIBUTE_NAME:
            name = reader.text(part)
        elif part.key == fields.ATTRIBUTE_INT:
            value = _signed(reader.value(part))
        elif part.key == fields.ATTRIBUTE_STRING:
            value = reader.content(part).decode(errors="replace")
        elif part.key == fields.ATTRIBUTE_INTS:
            listed += reader.count(part, 0)
            numbers += (_signed(number) for number in reader.values(part)) if listed <= _LONGEST_LIST else ()
        elif part.key in (fields.ATTRIBUTE_TENSOR, fields.ATTRIBUTE_TENSORS):
            node.tensors.append(_read_tensor(reader, part))
        elif part.key in (fields.ATTRIBUTE_SPARSE, fields.ATTRIBUTE_SPARSES):
            raise _sparse()
        elif part.key in (fields.ATTRIBUTE_GRAPH, fields.ATTRIBUTE_GRAPHS):
            node.graphs.append(_read_graph(reader, part, depth + 1))
    if listed:
        value = numbers if listed <= _LONGEST_LIST else None
    node.attributes[name] = value


def _read_tensor(reader: Reader, place: Field) -> Tensor:
    tensor = Tensor(place)
    for part in reader.message(place):
        size = part.end - part.begin
        if part.key == fields.TENSOR_EXTERNAL or (
            part.key == fields.TENSOR_LOCATION and reader.value(part) != 0
        ):
            raise IntegrityError("The model file refers to external data, which zoo does not load.")
        if part.key in (fields.TENSOR_SEGMENT, fields.TENSOR_STRING):
            raise IntegrityError(
                "The model file contains a segmented or a text tensor, which zoo does not support."
            )
        if part.key == fields.TENSOR_NAME:
            tensor.name = reader.text(part)
        elif part.key == fields.TENSOR_TYPE:
            tensor.type = reader.value(part)
        elif part.key == fields.TENSOR_DIMS:
            if len(tensor.dims) + reader.count(part, 0) > _MOST_AXES:
                raise IntegrityError("The model file is damaged: a tensor has too many axes.")
            tensor.dims += (_signed(side) for side in reader.values(part))
        elif part.key == fields.TENSOR_RAW:
            if tensor.content is not None:
                raise IntegrityError("The model file is damaged: it holds the data of a tensor twice.")
            tensor.content = part
            tensor.raw = reader.content(part) if size <= _SMALL else b""
        elif part.key in fields.TENSOR_NUMBERS:
            tensor.listed += reader.count(part, fields.TENSOR_NUMBERS[part.key])
            if (
                part.key in (fields.TENSOR_INT32, fields.TENSOR_INT64)
                and size <= _SMALL
                and tensor.listed <= _SMALL
            ):
                numbers = tensor.int32 if part.key == fields.TENSOR_INT32 else tensor.int64
                numbers += reader.values(part)
    if any(side < 0 for side in tensor.dims):
        raise IntegrityError("The model file is damaged: a tensor has a negative side.")
    return tensor


def _read_value(reader: Reader, place: Field) -> ValueInfo:
    value = ValueInfo()
    for part in reader.message(place):
        if part.key == fields.VALUE_NAME:
            value.name = reader.text(part)
        elif part.key == fields.VALUE_TYPE:
            for kind in reader.message(part):
                if kind.key == fields.TYPE_TENSOR:
                    _read_tensor_type(reader, kind, value)
    return value


def _read_tensor_type(reader: Reader, place: Field, value: ValueInfo) -> None:
    for part in reader.message(place):
        if part.key == fields.TENSOR_TYPE_ELEMENT:
            value.kind = reader.value(part)
        elif part.key == fields.TENSOR_TYPE_SHAPE:
            value.dims = []
            for dim in reader.message(part):
                if dim.key == fields.SHAPE_DIM:
                    stated = [
                        _signed(reader.value(each))
                        for each in reader.message(dim)
                        if each.key == fields.DIM_VALUE
                    ]
                    value.dims.append(stated[-1] if stated else None)


def _signed(number: int) -> int:
    """Return a varint as the signed number of 64 bits that it stands for."""
    return number - (1 << 64) if number >> 63 else number
