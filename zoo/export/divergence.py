"""Finding the first tensor of an exported file that differs from the network's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo import plugins
from zoo.contracts.input_parts import packing_of_file
from zoo.errors import ZooError
from zoo.export.weighted_operators import WEIGHTED
from zoo.extras import require
from zoo.surgery.agreement import signal_to_error

if TYPE_CHECKING:
    import onnx
    from zoo.contracts import FloatArray
    from zoo.export.exporter import Deployed

_CODING = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Identity"})
#: More operators than this between two layers are not listed.
_MOST_OPERATORS = 6


def first_divergence(
    deployed: Deployed, exported: bytes, inputs: FloatArray, least: float, *, threads: int = 0
) -> str:
    """Return in words where a file leaves its network, by the inputs of layers; "" if no layer can be compared.

    The file is cut before a layer and run by the engine that computed the whole, which fuses what it fused there.

    Args:
        deployed: The network, with what the file does before and after it.
        exported: The file.
        inputs: (N, C, H, W), in the file's range.
        least: Signal to error, in dB, of tensors that agree.
        threads: Of the engine.
    """
    onnx = require("onnx", "Comparing a file")
    model = onnx.load_model_from_string(exported)
    expected = _layer_inputs(deployed, inputs)
    places = [(layer, value) for layer, value in _layers(model.graph) if layer in expected]

    def differs(index: int) -> bool:
        layer, value = places[index]
        actual = _run_until(model, value, inputs, threads)
        wanted = expected[layer]
        if actual is None or actual.numel() != wanted.numel():
            return False  # laid out in another way: nothing can be said
        return signal_to_error(wanted, actual.reshape(wanted.shape)) < least

    if not places:
        return ""
    agreeing, differing = -1, len(places)
    while differing - agreeing > 1:
        middle = (agreeing + differing) // 2
        if differs(middle):
            differing = middle
        else:
            agreeing = middle
    if differing == len(places):
        return f"it differs first behind '{places[-1][0]}', the last layer"
    layer, value = places[differing]
    between = _operators_before(model.graph, value)
    return (
        f"it differs first in the input of '{layer}' (tensor '{value}'"
        f"{f', computed by {between}' if between else ''})"
    )


def _layer_inputs(deployed: Deployed, inputs: FloatArray) -> dict[str, Tensor]:
    """What each layer with a weight is given at its first call, by its path."""
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            given = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(given, Tensor):
                found.setdefault(path, given.detach().float().cpu().clone())

        return hook

    handles = [
        module.register_forward_pre_hook(keep(path), with_kwargs=True)
        for path, module in deployed.net.named_modules()
        if path and not isinstance(module, torch.jit.ScriptModule)
    ]
    parameter = next(deployed.net.parameters(), None)
    try:
        with torch.no_grad():
            given = torch.from_numpy(inputs)
            deployed(given if parameter is None else given.to(parameter.device))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _layers(graph: onnx.GraphProto) -> list[tuple[str, str]]:
    """The layers of a file in order, with the name of the tensor that each works on, before it is rounded to be fed."""
    producer = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type in WEIGHTED:
            value = node.input[0]
            source = producer.get(value)
            if source is not None and source.op_type == "DynamicQuantizeLinear":
                value = source.input[0]
            found.append((node.name, value))
    return found


def _operators_before(graph: onnx.GraphProto, value: str) -> str:
    """The operators between the layers before a tensor and it, in order."""
    producer = {name: node for node in graph.node for name in node.output}
    waiting, seen, names = [value], set(), []
    while waiting:
        node = producer.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type not in _CODING:
            names.append(node.op_type)
        if node.op_type not in WEIGHTED:
            waiting += node.input
    return ", ".join(reversed(names)) if len(names) <= _MOST_OPERATORS else ""


def _run_until(model: onnx.ModelProto, value: str, inputs: FloatArray, threads: int) -> Tensor | None:
    """What the engine computes for one tensor of a file; None if it cannot be had by itself."""
    names = [each.name for each in model.graph.input]
    if value in names:
        shapes = [
            [size.dim_value or None for size in each.type.tensor_type.shape.dim] for each in model.graph.input
        ]
        packing = packing_of_file(shapes)
        arrays = [inputs] if packing is None else packing.unpack(inputs)
        return torch.from_numpy(np.ascontiguousarray(arrays[names.index(value)]))
    cut = type(model)()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    cut.graph.output.add(name=value)
    with contextlib.suppress(ZooError):
        session = plugins.engine("onnxruntime").open(cut.SerializeToString(), threads=threads)
        return torch.from_numpy(session.run(inputs))
    return None
