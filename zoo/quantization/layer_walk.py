"""A quantized network computed layer by layer on several batches side by side, so that layers can change on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from zoo.quantization.fold import SkipLayer
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear

QuantLayer = QuantConv2d | QuantLinear
#: Yields each layer before it is computed, and takes what it gives for each batch.
LayerWalk = Generator["LayerStep", list[Tensor], None]


@dataclass(frozen=True)
class LayerStep:
    """A layer whose turn it is.

    Attributes:
        path: Of the layer.
        layer: The layer.
        inputs: Its input in each batch.
    """

    path: str
    layer: QuantLayer
    inputs: list[Tensor]

    def outputs(self) -> list[Tensor]:
        """Compute the outputs of the layer as it is now."""
        return [self.layer(x) for x in self.inputs]


def layers_called_once(module: fx.GraphModule, skip_layer: SkipLayer, what: str) -> dict[str, QuantLayer]:
    """Return the layers with quantized weights by path, in the order in which the network runs them.

    Args:
        module: The network.
        skip_layer: Called for each layer that is left out since it is called more than once.
        what: What does not happen to that layer, as the end of a sentence.
    """
    calls = Counter(str(node.target) for node in module.graph.nodes if node.op == "call_module")
    layers: dict[str, QuantLayer] = {}
    for path, count in calls.items():
        layer = module.get_submodule(path)
        if isinstance(layer, (QuantConv2d, QuantLinear)):
            if count == 1:
                layers[path] = layer
            else:
                skip_layer(path, f"called {count} times: {what}")
    return layers


def walk_layers(
    module: fx.GraphModule, batches: Sequence[Tensor], layers: dict[str, QuantLayer]
) -> LayerWalk:
    """Compute a network a node at a time, on all batches; each of `layers` is computed by whoever walks.

    Args:
        module: The network, in eval mode. Quantizers may be switched between steps.
        batches: (N, C, H, W) each, on the network's device.
        layers: Those to stop at, by path, each called once.
    """
    runs = [fx.Interpreter(module) for _ in batches]
    for run, batch in zip(runs, batches, strict=True):
        run.env, run.args_iter = {}, iter([batch])
    for node in module.graph.nodes:
        if node.op == "output":
            return
        layer = layers.get(str(node.target)) if node.op == "call_module" else None
        if layer is None:
            for run in runs:
                run.env[node] = run.run_node(node)
        else:
            inputs = [run.env[node.all_input_nodes[0]] for run in runs]
            outputs = yield LayerStep(str(node.target), layer, inputs)
            for run, output in zip(runs, outputs, strict=True):
                run.env[node] = output
        for run in runs:
            for used in run.user_to_last_uses.get(node, ()):
                del run.env[used]


def network_device(module: fx.GraphModule) -> torch.device:
    """Return where a network's parameters are."""
    return next(module.parameters()).device
