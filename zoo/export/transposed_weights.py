"""Names for weights that an exporter stored transposed, so that nodes and reports can say whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

if TYPE_CHECKING:
    import onnx


def name_transposed_weights(graph: onnx.GraphProto, model: nn.Module) -> None:
    """Name initializers that are the transposed weight of a linear layer like that weight.

    torch's exporter writes the product of a linear layer with more than two dimensions as MatMul, stores the weight as
    (in, out), and loses its name.

    Args:
        graph: An exporter's graph, changed in place.
        model: What was exported.
    """
    from onnx import numpy_helper

    names = {tensor.name for tensor in graph.initializer}
    nameless = {
        node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in names
    } - {name for name, _ in model.named_parameters()}
    if not nameless:
        return
    weights = [
        (f"{path}.weight", layer.weight.detach().cpu().numpy().T)
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and f"{path}.weight" not in names
    ]
    renamed: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.name not in nameless:
            continue
        value = numpy_helper.to_array(tensor)
        for index, (name, weight) in enumerate(weights):
            if weight.shape == value.shape and weight.dtype == value.dtype and np.array_equal(weight, value):
                renamed[tensor.name] = name
                tensor.name = name
                del weights[index]
                break
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
