"""An exporter's ONNX graph stripped to what engines need, with names that say what they name."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo.contracts import Architecture
from zoo.errors import ZooError
from zoo.export.conditional_work import skip_unneeded_work
from zoo.export.fold_padding import fold_padding
from zoo.export.packing import INT4_OPSET, pack_weights
from zoo.export.qdq_propagation import propagate_qdq
from zoo.export.weighted_operators import WEIGHTED
from zoo.onnx.nested_graphs import every_node, read_values, rename_read
from zoo.version import __version__

if TYPE_CHECKING:
    import onnx

#: The zero point of quantized activations without a sign, one uint8 scalar. Those with a sign share another.
ZERO_POINT = "zoo_zero_point"
#: Those of weights, one for each number of channels. Engines may move the activations' alone.
WEIGHT_ZERO_POINT = "zoo_weight_zero_point"
#: ONNX Runtime 1.20 reads this version of the file format.
IR_VERSION = 10
#: Axes of an input with the batch dimension, up to which none is a height or a width.
_IMAGE_AXES = 3


def simplify_model(
    proto: onnx.ModelProto,
    architecture: Architecture,
    *,
    prefix: str,
    half_weights: Collection[str] | Literal[True],
) -> None:
    """Edit `proto` in place; raises ZooError if it holds operators that are not standard.

    Initializers lose `prefix`. Weights of few levels are packed, those that `half_weights` names are stored in float16.
    Work that a choice may not need becomes a branch.
    Stack traces, shapes of intermediate values, unused and repeated initializers go; nodes are named after their
    layers.
    """

    foreign = sorted({n.domain for n in every_node(proto.graph) if n.domain not in ("", "ai.onnx")})
    if foreign or proto.functions:
        names = sorted({n.op_type for n in every_node(proto.graph) if n.domain in foreign})
        raise ZooError(
            f"{architecture.id} exports to operators that are not standard ONNX: {', '.join(names)}."
        )
    _share_zero_points(proto.graph)
    fold_padding(proto.graph)
    _drop_dead_initializers(proto.graph)
    _merge_scalars(proto.graph)
    _name(proto.graph, prefix)
    if half_weights:
        _halve(proto.graph, None if half_weights is True else half_weights)
    has_int4 = pack_weights(proto.graph)
    if has_int4:
        propagate_qdq(proto.graph)
    for node in every_node(proto.graph):
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        node.ClearField("domain")
    for tensor in (*proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        tensor.ClearField("doc_string")
        tensor.ClearField("metadata_props")
    graph = proto.graph
    for field in ("value_info", "doc_string", "metadata_props", "quantization_annotation"):
        graph.ClearField(field)
    graph.name = architecture.id
    _name_axes(graph, architecture)
    opsets = [opset for opset in proto.opset_import if opset.domain in ("", "ai.onnx")]
    # Between the two opsets nothing but types was added to the operators that exporters write.
    version = max(opsets[0].version, INT4_OPSET) if has_int4 else opsets[0].version
    for field in ("doc_string", "metadata_props", "domain", "model_version", "opset_import"):
        proto.ClearField(field)
    proto.opset_import.add(domain="", version=version)
    proto.ir_version = IR_VERSION
    proto.producer_name, proto.producer_version = "compression-zoo", __version__
    skip_unneeded_work(proto)


def _drop_dead_initializers(graph: onnx.GraphProto) -> None:
    used = read_values(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _share_zero_points(graph: onnx.GraphProto) -> None:
    """One zero point for all activations with a sign, one for those without, and one per number of weights' channels.

    A constant that is quantized like an activation, such as a token that is always the same, counts as a weight.
    """
    from onnx import TensorProto, numpy_helper

    initializers = {tensor.name: tensor for tensor in graph.initializer}
    constant = set(initializers)
    shared: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) != 3:
            continue
        tensor = initializers[node.input[2]]
        value = numpy_helper.to_array(tensor)
        level = f"_{int(value)}" if value.ndim == 0 and value else ""
        name = f"{ZERO_POINT}{level}"
        if node.input[0] in constant:
            constant.update(node.output)
            unsigned = "_unsigned" if tensor.data_type == TensorProto.UINT8 else ""
            name = "_".join([f"{WEIGHT_ZERO_POINT}{unsigned}{level}", *(str(side) for side in tensor.dims)])
        if name not in shared:
            shared[name] = type(tensor)()
            shared[name].CopyFrom(tensor)
            shared[name].name = name
        node.input[2] = name
    graph.initializer.extend(shared.values())


def _merge_scalars(graph: onnx.GraphProto) -> None:
    """One initializer for all scalars of one value, zero points excepted."""
    from onnx import numpy_helper

    first: dict[tuple[int, bytes], str] = {}
    replaced: dict[str, str] = {}
    for tensor in list(graph.initializer):
        value = numpy_helper.to_array(tensor)
        if value.ndim or tensor.name.startswith((ZERO_POINT, WEIGHT_ZERO_POINT)):
            continue
        key = (tensor.data_type, value.tobytes())
        if key in first:
            replaced[tensor.name] = first[key]
            graph.initializer.remove(tensor)
        else:
            first[key] = tensor.name
    rename_read(graph, replaced)


def _name(graph: onnx.GraphProto, prefix: str) -> None:
    """Name layers' nodes after their weights, the others by operator and number, and values after nodes."""
    new: dict[str, str] = {}
    kept = {value.name for value in (*graph.input, *graph.output)}
    for tensor in graph.initializer:
        stripped = tensor.name.removeprefix(prefix)
        tensor.name = new.setdefault(tensor.name, tensor.name if stripped in kept else stripped)
    initializers = {tensor.name for tensor in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    counts: dict[str, int] = {}
    taken: set[str] = set()
    for node in graph.node:
        name = ""
        if node.op_type in WEIGHTED:
            weight = node.input[WEIGHTED[node.op_type]]
            source = producer.get(weight)
            weight = source.input[0] if source is not None and source.input else weight
            weight = new.get(weight, weight)
            name = weight.removesuffix(".weight") if weight in initializers else ""
        base = name or node.op_type
        while not name or name in taken:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
            name = f"{base}_{counts[node.op_type]}"
        taken.add(name)
        node.name = name
        for index, value in enumerate(node.output):
            if value and value not in kept:
                new[value] = f"{name}:{index}" if index else f"{name}:"
    rename_read(graph, new)
    for node in graph.node:
        for index, value in enumerate(node.output):
            node.output[index] = new.get(value, value)


def _halve(graph: onnx.GraphProto, names: Collection[str] | None) -> None:
    """Store weights in float16, all or those of `names`; a Cast, which engines fold when loading, gives float32.

    Of a network with integers only what layers in float multiply with: scales and biases are the integers' own.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts, renamed = [], {}
    layers = [node for node in graph.node if node.op_type in WEIGHTED]
    weights = {node.input[WEIGHTED[node.op_type]] for node in layers}
    marks = ("DequantizeLinear", "DynamicQuantizeLinear")
    has_integers = any(node.op_type in marks for node in graph.node)
    # How far a picture is enlarged must be known without computing anything.
    factors = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or not tensor.dims or tensor.name in factors:
            continue
        if (has_integers and tensor.name not in weights) or (names is not None and tensor.name not in names):
            continue
        value = numpy_helper.to_array(tensor)
        if not np.all(np.abs(value) <= np.finfo(np.float16).max):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), name))
        renamed[name] = f"{name}:float32"
        casts.append(helper.make_node("Cast", [name], [renamed[name]], f"{name}:cast", to=TensorProto.FLOAT))
    rename_read(graph, renamed)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _name_axes(graph: onnx.GraphProto, architecture: Architecture) -> None:
    """Readable names for the sizes that may vary."""
    for value in graph.input:
        shape = value.type.tensor_type.shape.dim
        sides = {len(shape) - 2: "height", len(shape) - 1: "width"} if len(shape) > _IMAGE_AXES else {}
        for axis, name in {0: "batch", **({} if architecture.input.fixed_size else sides)}.items():
            shape[axis].Clear()
            shape[axis].dim_param = name
    for axis, size in enumerate(graph.output[0].type.tensor_type.shape.dim):
        if not size.HasField("dim_value"):
            size.Clear()
            size.dim_param = "batch" if axis == 0 else f"output_{axis}"
