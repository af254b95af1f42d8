"""What must be known of an ONNX file before an engine loads it, found without the onnx package.

:func:`check_model` refuses files that reach outside themselves or hold operators that are not standard.
:func:`to_unsigned` turns int8 activations into uint8 ones for processors that multiply unsigned by signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from zoo.engines.protobuf import Field, Reader, encode_bytes, encode_number
from zoo.errors import IntegrityError

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO, _GRAPH_SPARSE = 1, 5, 12, 13, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 1, 5, 6
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 10, 11, 22, 23
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_INT32, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 5, 8, 9
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_UINT8, _INT8 = 2, 3
_STANDARD = ("", "ai.onnx")
#: Graphs inside graphs (the branches of an If): deeper than this is no network.
_MAX_DEPTH = 8


@dataclass
class _Node:
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)


@dataclass
class _Tensor:
    """An initializer; `place` is the field that holds it."""

    place: Field
    name: str = ""
    type: int = 0
    dims: list[int] = field(default_factory=list)
    raw: bytes | None = None
    int32: list[int] = field(default_factory=list)

    def int8_value(self) -> int | None:
        """The value of a tensor that holds exactly one int8, else None."""
        if self.type != _INT8 or any(side != 1 for side in self.dims):
            return None
        if self.raw is not None and len(self.raw) == 1 and not self.int32:
            return int.from_bytes(self.raw, "little", signed=True)
        if self.raw is None and len(self.int32) == 1:
            value = self.int32[0] - (1 << 64 if self.int32[0] >> 63 else 0)
            return value if -128 <= value <= 127 else None
        return None


@dataclass
class _Graph:
    place: Field
    nodes: list[_Node] = field(default_factory=list)
    initializers: list[_Tensor] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    value_infos: list[Field] = field(default_factory=list)
    nested: bool = False


def check_model(data: bytes) -> None:
    """Raise IntegrityError unless `data` is a well-formed ONNX model that an engine may load.

    Refused: data outside the file, operators of domains other than ONNX's own, functions, training graphs.
    """
    _read(data)


def to_unsigned(data: bytes) -> bytes:
    """The same network with uint8 activations: zero points z of int8 become z + 128.

    Each quantized value moves by 128 and its zero point with it, so that what they stand for, and every
    integer product, stays the same. Weights are not touched. A network in which int8 activations meet
    anything but QuantizeLinear and DequantizeLinear is given back as it is. Raises IntegrityError as
    :func:`check_model` does.
    """
    graph = _read(data)
    if graph.nested:
        return data
    shifted = _activation_zero_points(graph)
    if not shifted:
        return data
    edits = [(tensor.place, _shifted(tensor, value)) for tensor, value in shifted]
    # Recorded types of intermediate values would contradict the new ones; engines infer them.
    edits += [(place, b"") for place in graph.value_infos]
    body = _replace(data, graph.place.begin, graph.place.end, edits)
    new = encode_bytes(_MODEL_GRAPH, body)
    return data[: graph.place.start] + new + data[graph.place.end :]


def _read(data: bytes) -> _Graph:
    reader = Reader(data)
    graph: _Graph | None = None
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


def _read_graph(reader: Reader, place: Field, depth: int) -> _Graph:
    if depth > _MAX_DEPTH:
        raise IntegrityError("The model file nests graphs too deeply.")
    graph = _Graph(place)
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


def _read_node(reader: Reader, place: Field, graph: _Graph, depth: int) -> _Node:
    node = _Node()
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
            for entry in reader.message(part):
                if entry.key == _ATTRIBUTE_NAME:
                    node.attributes.append(reader.text(entry))
                elif entry.key in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _read_tensor(reader, entry)
                elif entry.key in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
                    _read_sparse(reader, entry)
                elif entry.key in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    _read_graph(reader, entry, depth + 1)
                    graph.nested = True
    return node


def _read_sparse(reader: Reader, place: Field) -> None:
    for part in reader.message(place):
        if part.key in (1, 2):  # values and indices are tensors
            _read_tensor(reader, part)


def _read_tensor(reader: Reader, place: Field) -> _Tensor:
    tensor = _Tensor(place)
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


def _activation_zero_points(graph: _Graph) -> list[tuple[_Tensor, int]]:
    """The zero points of all int8 activations with their values; empty if one of them cannot be shifted."""
    constants = {tensor.name: tensor for tensor in graph.initializers}
    if len(constants) != len(graph.initializers):
        raise IntegrityError("The model file is damaged: two initializers share a name.")
    found: dict[str, int] = {}
    quantized: set[str] = set()
    for node in graph.nodes:
        if node.operator == "QuantizeLinear" and len(node.inputs) == 3 and len(node.outputs) == 1:
            zero = constants.get(node.inputs[2])
            value = zero.int8_value() if zero is not None else None
            if value is None or node.inputs[0] in constants or "output_dtype" in node.attributes:
                continue
            found[node.inputs[2]] = value
            quantized.add(node.outputs[0])
    if quantized & set(graph.outputs) or not _only_dequantized(graph, quantized, found):
        return []
    return [(constants[name], value) for name, value in found.items()]


def _only_dequantized(graph: _Graph, quantized: set[str], zero_points: dict[str, int]) -> bool:
    """Whether shifted values and shifted zero points meet in QuantizeLinear and DequantizeLinear alone."""
    for node in graph.nodes:
        values = [name for name in node.inputs if name in quantized]
        zeros = [name for name in node.inputs if name in zero_points]
        if not values and not zeros:
            continue
        if node.operator == "DequantizeLinear":
            fine = values == node.inputs[:1] and zeros == node.inputs[2:] and len(zeros) == 1
        else:
            fine = quantized.issuperset(node.outputs) and not values and zeros == node.inputs[2:]
        if not fine:
            return False
    return not zero_points.keys() & set(graph.outputs)


def _shifted(tensor: _Tensor, value: int) -> bytes:
    content = b"".join(encode_number(_TENSOR_DIMS, side) for side in tensor.dims)
    content += encode_number(_TENSOR_TYPE, _UINT8) + encode_bytes(_TENSOR_NAME, tensor.name.encode())
    content += encode_bytes(_TENSOR_RAW, bytes([value + 128]))
    return encode_bytes(_GRAPH_INITIALIZER, content)


def _replace(data: bytes, begin: int, end: int, edits: list[tuple[Field, bytes]]) -> bytes:
    """data[begin:end] with the given fields replaced."""

    def pieces() -> Iterator[bytes]:
        at = begin
        for place, new in sorted(edits, key=lambda edit: edit[0].start):
            yield data[at : place.start]
            yield new
            at = place.end
        yield data[at:end]

    return b"".join(pieces())
