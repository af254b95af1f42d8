"""Parameters, multiply-accumulates and bytes of an exported file, from its graph alone: nothing is run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts.input_parts import packing_of_file
from zoo.cost.branches import inline_branches
from zoo.cost.size_arithmetic import fold_sizes
from zoo.cost.totals import Cost, LayerCost, total
from zoo.errors import InputError, IntegrityError, UsageError
from zoo.extras import require

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

#: Inputs of each operator that hold trained numbers, if they are constants.
_WEIGHTS: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "PRelu": (1,),
    "Gather": (0,),
    "Expand": (0,),
}
#: Any input may be trained (biases, layer scales, embeddings, class tokens), unless the operator only
#: prepares the network's input or the constant is a single number.
_JOINS = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Concat")
#: A constant seen through these is still the same trained numbers.
_VIEWS = (
    "Cast", "DequantizeLinear", "QuantizeLinear", "Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze",
    "Flatten",
)  # fmt: skip
#: Levels of packed weights are of this type: TensorProto.INT8.
_INT8 = 3
#: Sizes are TensorProto.INT64, or in few bytes, such as the scales of Resize.
_INT64, _LARGEST_SIZES = 7, 1024
#: Where activations and weights are among an operator's inputs.
_CONVS = {"Conv": (0, 1), "ConvInteger": (0, 1), "ConvTranspose": (0, 1), "QLinearConv": (0, 3)}
_PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}


def onnx_cost(model: str | Path | bytes, input_shape: Sequence[int]) -> Cost:
    """Return the cost of an ONNX file for an input of a given shape.

    Weights behind DequantizeLinear or Cast count as parameters, whatever they are stored in, packed or not;
    scales and zero points, running statistics and the normalisation of the input do not. An initializer used
    twice is counted once. Layers are named after their nodes. `bytes` leaves out external data files. Of an If, both
    branches count: an input for which one of them is skipped needs less.

    Args:
        model: Path, or the file's bytes.
        input_shape: (N, C, H, W) of the input, in place of dynamic sizes; of a file with several inputs, that of the
            array that holds them (:class:`zoo.contracts.input_parts.Packing`).

    Raises:
        InputError: The file cannot be read.
        IntegrityError: It is not an ONNX model, or sizes in it cannot be derived.
        UsageError: It does not take such an input.
        MissingDependencyError: `onnx` is not installed.
    """
    require("onnx", "Counting the cost of an exported file")
    proto, size = _load(model)
    graph = _Graph(_with_shapes(proto, tuple(input_shape)))
    layers = []
    for node in graph.nodes:
        parameters = graph.take_parameters(node)
        kind, macs = graph.macs(node)
        if parameters or macs:
            layers.append(LayerCost(node.name or node.output[0], kind, parameters, macs))
    return total(sum(layer.parameters for layer in layers), tuple(layers), size)


def _load(model: str | Path | bytes) -> tuple[ModelProto, int]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    import onnx

    where = "The model" if isinstance(model, bytes) else f"'{model}'"
    try:
        data = model if isinstance(model, bytes) else Path(model).read_bytes()
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror or error}.") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise IntegrityError(f"{where} is not an ONNX model: {error}.") from error
    if not proto.graph.node:
        raise IntegrityError(f"{where} is not an ONNX model: it has no graph.")
    return proto, len(data)


def _with_shapes(model: ModelProto, input_shape: tuple[int, ...]) -> ModelProto:
    """Return the model with the shape of every tensor that can be derived from the input's."""
    import onnx
    from onnx import inliner, shape_inference

    if model.functions:
        model = inliner.inline_local_functions(model)
    inline_branches(model)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if not inputs:
        raise IntegrityError("The ONNX model has no input.")
    every = [value.type.tensor_type.shape.dim for value in inputs]
    stated = [[dim.dim_value if dim.HasField("dim_value") else None for dim in dims] for dims in every]
    packing = packing_of_file(stated, len(input_shape))
    wanted = stated[0] if packing is None else [None, packing.channels, *packing.sides]
    if len(wanted) != len(input_shape) or any(
        want not in (None, given) for want, given in zip(wanted, input_shape, strict=True)
    ):
        shown = ", ".join("any" if want is None else str(want) for want in wanted)
        raise UsageError(f"The ONNX model expects an input of ({shown}), not {tuple(input_shape)}.")
    shapes = [input_shape] if packing is None else packing.shapes_of(input_shape)
    for dims, shape in zip(every, shapes, strict=True):
        for dim, given in zip(dims, shape, strict=True):
            dim.dim_value = given
    _forget_weights(graph)
    try:
        # Shapes written for the dynamic input would stand in the way of those for this one.
        _forget_shapes(model)
        model = shape_inference.infer_shapes(model, data_prop=True)
        # What was half known is known now; where each layer's size follows from the one before, one layer at a time.
        while fold_sizes(model):
            _forget_shapes(model)
            model = shape_inference.infer_shapes(model, data_prop=True)
        return model
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise IntegrityError(f"The sizes in the ONNX model contradict each other: {error}") from error


def _forget_weights(graph: GraphProto) -> None:
    """Leave of large tensors their shape and type: each inference copies the whole model several times."""
    constants = (each.t for node in graph.node for each in node.attribute if each.HasField("t"))
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type != _INT64 and tensor.ByteSize() > _LARGEST_SIZES:
            for field in ("raw_data", "float_data", "double_data", "int32_data", "uint64_data"):
                tensor.ClearField(field)


def _forget_shapes(model: ModelProto) -> None:
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


class _Graph:
    """Shapes, constants and producers of a graph whose shapes are inferred."""

    def __init__(self, model: ModelProto) -> None:

        graph: GraphProto = model.graph
        self.nodes = list(graph.node)
        self._sizes: dict[str, tuple[int, ...]] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                self._sizes[value.name] = tuple(dim.dim_value for dim in dims)
        stored = {tensor.name: tensor for tensor in graph.initializer}
        for node in self.nodes:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.HasField("t"):
                    stored[node.output[0]] = attribute.t
        self._sizes |= {name: tuple(tensor.dims) for name, tensor in stored.items()}
        # Integers this wide are sizes and indices.
        self._numbers = {
            name: 0 if tensor.data_type == _INT64 else math.prod(tensor.dims)
            for name, tensor in stored.items()
        }
        self._producer = {name: node for node in self.nodes for name in node.output}
        self._unpack(stored)
        self._counted: set[str] = set()
        # What a scale found at run time is multiplied by is a scale too.
        self._scales = {node.output[1] for node in self.nodes if node.op_type == "DynamicQuantizeLinear"}
        # Tensors that no layer with weights has touched: what prepares the input is not a trained number.
        self._raw = {value.name for value in graph.input} - set(self._numbers)

    def _unpack(self, stored: Mapping[str, TensorProto]) -> None:
        """Take a weight that the graph unpacks, by looking up codes in a table of levels, for one that is stored."""
        fixed = set(stored)
        for node in self.nodes:
            if not fixed.issuperset(node.input):
                continue
            fixed.update(node.output)
            table = stored.get(node.input[0]) if node.op_type == "Gather" else None
            if table is not None and table.data_type == _INT8 and node.input[1] not in stored:
                self._numbers[node.output[0]] = math.prod(self.shape(node.output[0], node))

    def constant(self, name: str) -> str | None:
        """Return the constant that `name` is, or is a view or another encoding of."""
        while name and name not in self._numbers:
            node = self._producer.get(name)
            if node is None or node.op_type not in _VIEWS:
                return None
            name = node.input[0]
        return name or None

    def shape(self, name: str, node: NodeProto) -> tuple[int, ...]:
        """Return the size of a tensor; IntegrityError if it is unknown."""
        shape = self._sizes.get(name)
        if shape is None or 0 in shape:
            raise IntegrityError(
                f"The size of '{name}', which {node.op_type} '{node.name}' uses, cannot be derived from the "
                "size of the input."
            )
        return shape

    def take_parameters(self, node: NodeProto) -> int:
        """Trained numbers this node uses that no node before it did."""
        if node.output[0] in self._numbers:
            return 0  # it unpacks a weight: who takes that counts it
        if self._scales.intersection(node.input):
            return 0
        joins = node.op_type in _JOINS
        prepares = bool(self._raw.intersection(node.input))
        slots = range(len(node.input)) if joins else _WEIGHTS.get(node.op_type, ())
        found = 0
        for slot in slots:
            name = self.constant(node.input[slot]) if slot < len(node.input) else None
            if name is None or name in self._counted:
                continue
            numbers = self._numbers[name]
            if joins and (prepares or numbers == 1):
                continue
            self._counted.add(name)
            found += numbers
        if prepares and (joins or node.op_type not in _WEIGHTS):
            self._raw.update(node.output)
        return found

    def macs(self, node: NodeProto) -> tuple[str, int]:
        """Kind and multiply-accumulates of a node; ("", 0) if it has none."""
        if node.op_type in _CONVS:
            data, weight = (node.input[slot] for slot in _CONVS[node.op_type])
            taps = math.prod(self.shape(weight, node)[1:])
            if node.op_type == "ConvTranspose":
                return "transposed conv", math.prod(self.shape(data, node)) * taps
            return "conv", math.prod(self.shape(node.output[0], node)) * taps
        if node.op_type in _PRODUCTS:
            left, right = (node.input[slot] for slot in _PRODUCTS[node.op_type])
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            depth = self.shape(left, node)[0 if transposed else -1]
            fixed = self.constant(left) is not None or self.constant(right) is not None
            kind = "linear" if fixed else "matmul"
            return kind, math.prod(self.shape(node.output[0], node)) * depth
        return "", 0
