"""Biases that correct the mean error of rounding, layer after layer.

Paper: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019; the
empirical form of its appendix.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, fx, nn

from zoo.quantization.fold import SkipLayer
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear
from zoo.quantization.quantizer_switches import rounding_off

_Layer = QuantConv2d | QuantLinear


def correct_biases(module: fx.GraphModule, batches: Sequence[Tensor], skip_layer: SkipLayer) -> int:
    """Add to each layer's bias the mean error, per channel, that rounding causes in its output.

    The layers are corrected in the order in which the network runs them, each on inputs that contain the rounding
    error and the corrections so far. A layer without a bias gets one.

    Args:
        module: The network, calibrated and in eval mode; changed in place.
        batches: (N, C, H, W) each.
        skip_layer: Called with (layer, reason) for each layer that is not corrected, being called more than once.

    Returns:
        The number of layers corrected.
    """
    device = next(module.parameters()).device
    batches = [batch.to(device) for batch in batches]
    calls = Counter(str(node.target) for node in module.graph.nodes if node.op == "call_module")
    layers = {}
    for path, count in calls.items():
        layer = module.get_submodule(path)
        if isinstance(layer, (QuantConv2d, QuantLinear)):
            if count == 1:
                layers[path] = layer
            else:
                skip_layer(path, f"called {count} times: its bias is not corrected")
    with torch.no_grad():
        wanted = _means_without_rounding(module, layers, batches)
        _walk(module, layers, batches, wanted)
    return len(layers)


@contextlib.contextmanager
def restored_biases(module: nn.Module) -> Iterator[Callable[[], None]]:
    """Put all layers' biases back as they were after the body, unless it calls the function that it is given."""
    before = {
        layer: layer.bias for layer in module.modules() if isinstance(layer, (QuantConv2d, QuantLinear))
    }
    kept: list[bool] = []
    try:
        yield lambda: kept.append(True)
    finally:
        for layer, bias in before.items():
            if not kept:
                layer.bias = bias


def _means_without_rounding(
    module: fx.GraphModule, layers: dict[str, _Layer], batches: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The mean of each channel of each layer's result in float, (C,) in float64."""
    found: dict[str, list[Tensor]] = {path: [] for path in layers}
    hooks = [
        layer.register_forward_hook(lambda _layer, _args, output, path=path: found[path].append(output))
        for path, layer in layers.items()
    ]
    means = {path: _Mean(layer) for path, layer in layers.items()}
    try:
        with rounding_off(module):
            for batch in batches:
                module(batch)
                for path, outputs in found.items():
                    means[path].add(outputs.pop())
    finally:
        for hook in hooks:
            hook.remove()
    return {path: mean.value() for path, mean in means.items()}


def _walk(
    module: fx.GraphModule, layers: dict[str, _Layer], batches: Sequence[Tensor], wanted: dict[str, Tensor]
) -> None:
    """Run all batches through the graph side by side, a node at a time, and correct each layer when it is met."""
    runs = [fx.Interpreter(module) for _ in batches]
    for run, batch in zip(runs, batches, strict=True):
        run.env, run.args_iter = {}, iter([batch])
    for node in module.graph.nodes:
        if node.op == "output":
            break
        for run in runs:
            run.env[node] = run.run_node(node)
        layer = layers.get(str(node.target)) if node.op == "call_module" else None
        if layer is not None:
            mean = _Mean(layer)
            for run in runs:
                mean.add(run.env[node])
            shift = (wanted[str(node.target)] - mean.value()).float()
            layer.bias = nn.Parameter(shift.clone() if layer.bias is None else layer.bias + shift)
            along = shift.view(-1, 1, 1) if isinstance(layer, QuantConv2d) else shift
            for run in runs:
                run.env[node] = run.env[node] + along
        for run in runs:
            for used in run.user_to_last_uses.get(node, ()):
                del run.env[used]


class _Mean:
    """The mean of each output channel of `layer` over batches."""

    def __init__(self, layer: _Layer) -> None:
        self._axis = 1 if isinstance(layer, QuantConv2d) else -1
        self._sum: Tensor | float = 0.0
        self._count = 0

    def add(self, output: Tensor) -> None:
        rows = output.movedim(self._axis, 0).flatten(1).double()
        self._sum = self._sum + rows.sum(1)
        self._count += rows.shape[1]

    def value(self) -> Tensor:
        assert isinstance(self._sum, Tensor), "there is at least one batch"
        return self._sum / self._count
