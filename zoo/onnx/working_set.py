"""How much memory a network's activations take for each input pixel, from its file alone: nothing is run.

Sizes are followed through the graph as elements per pixel of the input, which is all that the file tells when sides
may vary. An operator that is not known gives as much as the largest it takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.artifacts.manifest import MODEL_NAME
from zoo.errors import InputError
from zoo.onnx.check import load_checked_model
from zoo.onnx.fields import FLOAT
from zoo.onnx.graph import Graph, Node, Tensor, read_model
from zoo.storage.result_cache import ResultCache

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact

#: Computed by ONNX Runtime in integers between DequantizeLinear and QuantizeLinear.
_INTEGER = frozenset(
    (
        "Add", "AveragePool", "Clip", "Concat", "Conv", "DepthToSpace", "Flatten", "GlobalAveragePool", "Identity",
        "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Relu", "Reshape", "Sigmoid", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Transpose", "Unsqueeze",
    )
)  # fmt: skip
#: What comes out is the memory that goes in, or may be.
_IN_PLACE = frozenset(
    (
        "Clip", "Dropout", "Elu", "Flatten", "HardSigmoid", "Identity", "LeakyRelu", "Relu", "Reshape", "Sigmoid",
        "Squeeze", "Tanh", "Unsqueeze",
    )
)  # fmt: skip
_POOLS = ("AveragePool", "LpPool", "MaxPool")
_GLOBAL = ("GlobalAveragePool", "GlobalMaxPool")
#: Constants are seen through these.
_VIEWS = ("Cast", "DequantizeLinear", "Identity", "Reshape", "Transpose", "Unsqueeze")
#: A convolution in integers holds an address for each pixel that its kernel sees.
_ADDRESS = 8
#: Where sizes are computed by the graph itself, an enlargement is taken to be this much on each side.
_ENLARGED = 2
_LARGEST_RECORD = 1000


@dataclass(frozen=True)
class WorkingSet:
    """The memory that a run of a network holds.

    Attributes:
        live: The most that is held at once, in bytes for each pixel of the input, the input itself included.
        integer: Whether convolutions are computed in integers.
    """

    live: float
    integer: bool


def artifact_working_set(artifact: Artifact) -> WorkingSet:
    """Return the working set of an artifact's network, derived once and kept.

    Raises:
        IntegrityError: The file may not be handed to an engine.
    """
    channels = artifact.manifest.input.channels
    subject = {"model": artifact.manifest.files[MODEL_NAME].sha256, "channels": channels}
    cache = ResultCache("working-set", subject, Path(__file__))
    known = cache.read_table(_LARGEST_RECORD)
    if known is not None:
        with contextlib.suppress(InputError):
            return WorkingSet(known.number("live", least=0, most=1e12), known.boolean("integer"))
    found = measure_working_set(load_checked_model(artifact), channels)
    cache.write_table(dataclasses.asdict(found))
    return found


def measure_working_set(data: bytes, channels: int) -> WorkingSet:
    """Return the working set of a network.

    Args:
        data: Bytes of the model.
        channels: Of its input.

    Raises:
        IntegrityError: :func:`zoo.onnx.graph.read_model` refuses the file.
    """
    liveness = _Liveness(read_model(data), channels)
    return WorkingSet(liveness.most(), liveness.integer)


class _Liveness:
    """Elements per input pixel of each value, and which of them are there when a node runs."""

    def __init__(self, graph: Graph, channels: int) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializers}
        for node in graph.nodes:
            if node.operator == "Constant" and node.tensors:
                self._constants[node.outputs[0]] = node.tensors[0]
            elif node.operator in _VIEWS and node.inputs and node.inputs[0] in self._constants:
                self._constants[node.outputs[0]] = self._constants[node.inputs[0]]
        names = [value.name for value in graph.inputs if value.name not in self._constants]
        self._count = dict.fromkeys(names, float(channels))
        self._users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._users.setdefault(name, []).append(node)
        self._producer = {name: node for node in graph.nodes for name in node.outputs}
        #: The value whose memory each value uses.
        self._home: dict[str, str] = {name: name for name in names}
        self._size = dict.fromkeys(names, 4.0 * channels)
        self._held = set(names)

    @property
    def integer(self) -> bool:
        """Whether a convolution is computed in integers."""
        return any(node.operator == "Conv" and not self._is_float(node) for node in self._graph.nodes)

    def most(self) -> float:
        """Return the most bytes that are held at once."""
        nodes = [
            node for node in self._graph.nodes if any(name in self._count for name in self._follow(node))
        ]
        last: dict[str, int] = {}
        for number, node in enumerate(nodes):
            for name in node.inputs:
                last[self._home.get(name, name)] = number
        for name in self._graph.outputs:
            last[self._home.get(name, name)] = len(nodes)
        live = {name: self._size[name] for name in self._held}
        most = sum(live.values())
        for number, node in enumerate(nodes):
            for name in node.outputs:
                if self._home.get(name) == name:
                    live[name] = self._size[name]
            most = max(most, sum(live.values()) + self._workspace(node))
            for name in [name for name in live if last.get(name, -1) <= number and name not in self._held]:
                del live[name]
        return most

    def _follow(self, node: Node) -> Iterator[str]:
        """Derive the size of what a node makes; its outputs that depend on the network's input."""
        inputs = [name for name in node.inputs if name in self._count]
        if not inputs or all(name in self._constants for name in node.outputs):
            return
        count = self._made(node, inputs)
        for name in node.outputs:
            self._count[name] = count
            alias = self._alias(node, inputs)
            self._home[name] = name if alias is None else self._home[alias]
            self._size[name] = count * (4 if self._is_float(node) else 1)
            yield name

    def _made(self, node: Node, inputs: list[str]) -> float:
        """Elements of each output per pixel of the network's input."""
        counts = [self._count[name] for name in inputs]
        weight = self._weight(node)
        if weight is not None and len(weight.dims) > 2 and node.operator in ("Conv", "ConvInteger"):
            seen = counts[0] / self._channels_in(node, weight)
            return seen * weight.dims[0] / self._steps(node)
        if weight is not None and len(weight.dims) > 2 and node.operator == "ConvTranspose":
            groups = node.attributes.get("group") or 1
            assert isinstance(groups, int)
            return counts[0] / weight.dims[0] * weight.dims[1] * groups * self._steps(node)
        if weight is not None and len(weight.dims) == 2 and node.operator in ("MatMul", "Gemm"):
            return counts[0] * max(1.0, weight.dims[1] / max(1, weight.dims[0]))
        if node.operator == "Concat":
            return sum(counts)
        if node.operator in _POOLS:
            return counts[0] / self._steps(node)
        if node.operator in (*_GLOBAL, "Shape", "Size"):
            return 0.0
        if node.operator == "Resize":
            return counts[0] * self._enlargement(node)
        return max(counts)

    def _weight(self, node: Node) -> Tensor | None:
        return self._constants.get(node.inputs[1]) if len(node.inputs) > 1 else None

    def _channels_in(self, node: Node, weight: Tensor) -> int:
        groups = node.attributes.get("group") or 1
        assert isinstance(groups, int)
        return max(1, weight.dims[1] * groups)

    def _steps(self, node: Node) -> float:
        """Pixels of the input for each pixel of the output; as many outputs as inputs for a transposed convolution."""
        strides = node.attributes.get("strides")
        return math.prod(float(max(1, side)) for side in strides) if isinstance(strides, list) else 1.0

    def _enlargement(self, node: Node) -> float:
        scales = self._constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if scales is None or scales.type != FLOAT or scales.raw is None or len(scales.raw) != 16:
            return float(_ENLARGED**2)
        import struct

        return float(max(0.0, math.prod(struct.unpack("<4f", scales.raw))))

    def _workspace(self, node: Node) -> float:
        """Return what a node holds for itself."""
        weight = self._weight(node)
        if node.operator != "Conv" or weight is None or self._is_float(node):
            return 0.0
        kernel = math.prod(weight.dims[2:])
        outputs = self._count[node.outputs[0]] / max(1, weight.dims[0])
        return _ADDRESS * kernel * outputs if kernel > 1 else 0.0

    def _is_float(self, node: Node) -> bool:
        """Return whether what a node makes lies in memory as float32."""
        if node.operator in ("QuantizeLinear", "DynamicQuantizeLinear"):
            return False
        if node.operator == "DequantizeLinear":
            return not all(self._computes_integers(user) for user in self._users.get(node.outputs[0], []))
        return not self._computes_integers(node)

    def _computes_integers(self, node: Node) -> bool:
        before = [self._producer.get(name) for name in node.inputs if name in self._count]
        return (
            node.operator in _INTEGER
            and all(each is not None and each.operator == "DequantizeLinear" for each in before)
            and self._is_quantized(node.outputs[0])
        ) or self._is_fused(node)

    def _is_fused(self, node: Node) -> bool:
        """Return whether a node is a ReLU that the operator before it computes by the levels it rounds to."""
        before = self._producer.get(node.inputs[0]) if node.operator == "Relu" else None
        return before is not None and before.operator != "Relu" and self._computes_integers(before)

    def _is_quantized(self, value: str) -> bool:
        """Return whether all that uses a value, but for a ReLU in between, is a QuantizeLinear."""
        after = self._users.get(value, [])
        if [user.operator for user in after] == ["Relu"] and value not in self._graph.outputs:
            value = after[0].outputs[0]
            after = self._users.get(value, [])
        return (
            bool(after)
            and all(user.operator == "QuantizeLinear" for user in after)
            and value not in self._graph.outputs
        )

    def _alias(self, node: Node, inputs: list[str]) -> str | None:
        """Return the input whose memory the output takes, None if it needs its own."""
        integer = not self._is_float(node)
        if node.operator == "DequantizeLinear":
            return inputs[0] if integer else None
        if self._is_fused(node):
            return inputs[0]
        if node.operator == "QuantizeLinear":
            before = self._producer.get(inputs[0])
            return inputs[0] if before is not None and self._computes_integers(before) else None
        if node.operator in _IN_PLACE and not integer and len(self._users[inputs[0]]) == 1:
            return None if self._home[inputs[0]] in self._held else inputs[0]
        return None
