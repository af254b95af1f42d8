"""Torch networks from ONNX files: a torch.fx graph of torch's own layers and functions, held against the file."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

# These and the layers fill the table of converters.
import zoo.conversion.arithmetic_operators
import zoo.conversion.recurrent_operators
import zoo.conversion.resampling_operators  # noqa: F401
from zoo.contracts import InputPart, InputSpec
from zoo.contracts.random_inputs import random_inputs
from zoo.conversion.builder import GraphBuilder, Numbers, Operation, UnsupportedOperator, as_numbers
from zoo.conversion.conversion_check import check_conversion
from zoo.conversion.converter_table import CONVERTERS
from zoo.conversion.layer_operators import linear
from zoo.conversion.merging import merge_layers
from zoo.conversion.widening import widen
from zoo.errors import InputError
from zoo.extras import require
from zoo.modules.several_inputs import UNPACK, UnpackInputs
from zoo.onnx.nested_graphs import every_graph, every_node

if TYPE_CHECKING:
    from zoo.contracts import FloatArray
    from zoo.conversion.builder import Value

#: What rounds to integers: a file with these is compressed already.
_INTEGER_OPERATORS = frozenset(
    [
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    ]
)
#: The largest constant that is computed from others, in bytes.
_LARGEST_CONSTANT = 1 << 28
_IN_TORCH = "If you have the network in torch, compress it there:  zoo apply RECIPE path/to/module.py:factory"


@dataclass(frozen=True)
class ConvertedNetwork:
    """A network made from an ONNX file.

    Attributes:
        network: From (N, C, H, W) to what the file outputs, in eval mode.
        agreement_db: Signal to error against the file in ONNX Runtime, the lowest over the inputs that were tried.
    """

    network: fx.GraphModule
    agreement_db: float


def convert_onnx(
    data: bytes, example: FloatArray, *, fixed: bool, source: str, parts: Sequence[InputPart] = ()
) -> ConvertedNetwork:
    """Convert a file, and hold the network against it in ONNX Runtime.

    What the file computes in 16 bits is computed in float32. Constants become parameters and buffers; arithmetic on
    sizes becomes arithmetic of Python, so that the network can be exported again. A batch of any size can be computed,
    whether or not the file allows that.

    Args:
        data: The bytes of the file, which :func:`zoo.onnx.check_onnx` has passed.
        example: An input of the file, (1, C, H, W).
        fixed: Whether the network need only accept inputs of the example's height and width.
        source: What messages call the file.
        parts: The inputs of a file that has several, or one that is not (N, C, H, W); `example` holds them in one
            array, and so does what the network is called with.

    Raises:
        InputError: The file holds an operator that cannot be converted, which is named with its node; or it computes
            in integers already.
        DisagreementError: The network does not compute what the file does; the first node that differs is named.
    """
    onnx = require("onnx", "Converting an ONNX file")
    model = onnx.load_model_from_string(data)
    _refuse_integers(model, source)
    if widen(onnx, model):
        data = model.SerializeToString()
    converter = _Converter(onnx, model, fixed=fixed, source=source)
    network = converter.convert(torch.from_numpy(np.array(example)), parts)
    merge_layers(network)
    others = random_inputs(InputSpec.of_parts(parts), seed=1) if parts else None
    agreement = check_conversion(network, data, example, converter.names, source, fixed=fixed, others=others)
    return ConvertedNetwork(network, agreement)


def _refuse_integers(model: Any, source: str) -> None:
    found = Counter(node.op_type for node in model.graph.node if node.op_type in _INTEGER_OPERATORS)
    if found:
        kind, count = found.most_common(1)[0]
        raise InputError(
            f"{source} computes in integers already: it holds {count} nodes of {kind}.",
            hint="Compress the float file that it was made from; zoo bench, eval and explain read this one as it is.",
        )


class _Converter:
    """The values of one file while it is converted.

    Attributes:
        names: For each value that became a node of the network, the node's name, and the ONNX node that computes it.
    """

    def __init__(self, onnx: Any, model: Any, *, fixed: bool, source: str) -> None:
        self._onnx, self._graph, self._source = onnx, model.graph, source
        self._opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
        self._opsets = model.opset_import
        self._builder = GraphBuilder(fixed)
        self._values: dict[str, Value] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self._graph.initializer
        }
        self._uses = Counter(_uses(self._graph))
        self.names: dict[str, tuple[fx.Node, str]] = {}

    def convert(self, example: torch.Tensor, parts: Sequence[InputPart] = ()) -> fx.GraphModule:
        sources = [each.name for each in self._graph.input if each.name not in self._values]
        given = self._builder.placeholder(example)
        if parts:
            divided = self._builder.layer(UNPACK, UnpackInputs(parts), given)
            for place, source in enumerate(sources):
                self._values[source] = self._builder.call(operator.getitem, divided, place)
        else:
            self._values[sources[0]] = given
        self._convert_nodes(self._graph.node)
        results = [self._values[output.name] for output in self._graph.output]
        nodes = [self._builder.tensor(result) for result in results]
        names = [output.name for output in self._graph.output]
        return self._builder.finish(nodes[0] if len(nodes) == 1 else dict(zip(names, nodes, strict=True)))

    def _convert_nodes(self, nodes: Sequence[Any]) -> None:
        skipped: set[int] = set()
        for index, node in enumerate(nodes):
            if index not in skipped:
                later = self._convert(index, node, nodes)
                if later is not None:
                    skipped.add(later)

    def _convert(self, index: int, node: Any, nodes: Sequence[Any]) -> int | None:
        """Convert a node; return the place of a later one that is done by that, too."""
        operation = self._operation(index, node)
        if node.op_type == "If":
            self._convert_branch(node, operation)
            return None
        constants = [each for each in operation.inputs if each is not None]
        if node.op_type == "Constant":
            self._values[node.output[0]] = self._constant(node)
            return None
        if all(isinstance(each, np.ndarray) for each in constants) and node.op_type != "ConstantOfShape":
            self._fold(node, operation)
            return None
        later = self._merge_bias(index, node, operation, nodes)
        if later is not None:
            return later
        function = CONVERTERS.get(node.op_type)
        if function is None:
            raise self._unsupported(operation, "it has no counterpart here")
        try:
            result = function(self._builder, operation)
        except UnsupportedOperator as error:
            raise self._unsupported(operation, str(error)) from error
        except Exception as error:  # whatever torch says of shapes and types that do not fit
            raise self._unsupported(operation, f"{type(error).__name__}: {error}") from error
        results = result if isinstance(result, tuple) else (result,)
        for name, value in zip(node.output, results, strict=False):
            self._keep(name, value, operation)
        return None

    def _convert_branch(self, node: Any, operation: Operation) -> None:
        """Convert the branch that an If takes, where that depends on sizes only: on those of the example."""
        condition = as_numbers(operation.input(0))
        if condition is None:
            sources = self._sources_of(node.input[0])
            named = " and ".join(f"'{name}'" for name in sources) or "the input"
            raise self._unsupported(
                operation, f"which branch it takes depends on the values of {named}",
                hint=f"Keep the branch that is used: make {named} a constant in the file, and simplify it. {_IN_TORCH}",
            )  # fmt: skip
        taken = bool(self._builder.example(condition.items[0]))
        wanted = "then_branch" if taken else "else_branch"
        branch = next(each.g for each in node.attribute if each.name == wanted)
        for tensor in branch.initializer:
            self._values[tensor.name] = self._onnx.numpy_helper.to_array(tensor)
        self._convert_nodes(branch.node)
        for name, inner in zip(node.output, branch.output, strict=True):
            self._values[name] = self._values[inner.name]

    def _keep(self, name: str, value: Value, operation: Operation) -> None:
        self._values[name] = value
        if isinstance(value, fx.Node) and name:
            self.names[name] = (value, f"{operation.kind} ({operation.name})")

    def _operation(self, index: int, node: Any) -> Operation:
        attributes = {each.name: self._attribute(each) for each in node.attribute}
        wanted = (
            len(node.output)
            if node.op_type == "Split"
            else sum(1 for name in node.output if self._uses[name])
        )
        if node.op_type in ("Dropout", "MaxPool", "LayerNormalization"):
            wanted = 1 + sum(1 for name in list(node.output)[1:] if self._uses[name])
        return Operation(
            node.op_type,
            node.name or f"{node.op_type.lower()}_{index}",
            [self._value(name) if name else None for name in node.input],
            list(node.input),
            attributes,
            max(1, wanted),
            self._opset,
        )

    def _value(self, name: str) -> Value:
        """Return a value; numbers that turned out to be constants are one."""
        value = self._values[name]
        return value.array() if isinstance(value, Numbers) and value.known else value

    def _attribute(self, attribute: Any) -> Any:
        value = self._onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, self._onnx.TensorProto):
            return self._onnx.numpy_helper.to_array(value)
        return (
            list(value)
            if isinstance(value, (list, tuple)) or (hasattr(value, "__len__") and not isinstance(value, str))
            else value
        )

    def _constant(self, node: Any) -> Any:
        attribute = node.attribute[0]
        value = self._attribute(attribute)
        kinds = {
            "value_float": np.float32,
            "value_floats": np.float32,
            "value_int": np.int64,
            "value_ints": np.int64,
        }
        return np.asarray(value, dtype=kinds.get(attribute.name))

    def _fold(self, node: Any, operation: Operation) -> None:
        """Compute what depends on constants only, with the onnx package's own implementation."""
        given = {name: np.asarray(self._value(name)) for name in node.input if name}
        helper = self._onnx.helper
        inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                  for name, value in given.items()]  # fmt: skip
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "constant", inputs, outputs)
        try:
            evaluator = _evaluator(self._onnx)(helper.make_model(graph, opset_imports=self._opsets))
            results = evaluator.run(None, given)
        except Exception as error:  # an implementation in Python, of whatever quality
            raise self._unsupported(operation, f"its constants cannot be computed: {error}") from error
        for output, result in zip(outputs, results, strict=True):
            array = np.asarray(result)
            if array.nbytes > _LARGEST_CONSTANT:
                raise self._unsupported(operation, f"it makes a constant of {array.nbytes:,} bytes")
            self._values[output.name] = array

    def _merge_bias(self, index: int, node: Any, operation: Operation, nodes: Sequence[Any]) -> int | None:
        """Make one linear layer of a product with a constant matrix and the sum with a constant row after it.

        Returns:
            The place of the sum; None where there is none.
        """
        if node.op_type != "MatMul" or self._uses[node.output[0]] != 1:
            return None
        matrix = operation.inputs[1]
        if not (
            isinstance(matrix, np.ndarray) and matrix.ndim == 2 and isinstance(operation.inputs[0], fx.Node)
        ):
            return None
        for later, other in enumerate(list(nodes)[index + 1 :], index + 1):
            if node.output[0] not in other.input:
                continue
            names = [name for name in other.input if name != node.output[0]]
            row = self._values.get(names[0]) if names else None
            fits = other.op_type == "Add" and isinstance(row, np.ndarray) and row.shape == (matrix.shape[1],)
            if not fits:
                return None
            assert isinstance(row, np.ndarray)
            same = ("MatMul", operation.input_names[1], names[0])
            name = names[0].removesuffix(".bias") if names[0].endswith(".bias") else operation.name
            value = linear(self._builder, name, operation.inputs[0], matrix.T, row, same)
            self._keep(other.output[0], value, Operation("Add", other.name or name, [], []))
            return later
        return None

    def _sources_of(self, name: str) -> list[str]:
        """The inputs of the file that a value is computed from."""
        makers = {output: node for node in every_node(self._graph) for output in node.output}
        waiting, seen = [name], set()
        while waiting:
            each = waiting.pop()
            if each not in seen:
                seen.add(each)
                waiting += makers[each].input if each in makers else ()
        return [each.name for each in self._graph.input if each.name in seen]

    def _unsupported(self, operation: Operation, reason: str, hint: str = _IN_TORCH) -> InputError:
        return InputError(
            f"{self._source} cannot be compressed: the operator {operation.kind} (node {operation.name}) cannot be "
            f"converted to torch: {reason}.",
            hint=hint,
        )


def _uses(graph: Any) -> Iterator[str]:
    """The names of values that are used, once for each use, in a graph and in those inside it."""
    for each in every_graph(graph):
        yield from (output.name for output in each.output)
    for node in every_node(graph):
        yield from node.input


@functools.cache
def _evaluator(onnx: Any) -> Any:
    import importlib

    return importlib.import_module("onnx.reference").ReferenceEvaluator
