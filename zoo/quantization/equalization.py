"""Ranges of channels made equal across pairs of layers, so that one scale suits all channels of the tensor between.

Paper: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1.
What a channel is divided by in the first layer of a pair, the second layer's weights are multiplied by; between them
are only operators that give the same multiple of their result. The paper balances the ranges of weights, for which
weights with one scale for each output channel have no need: the ranges of activations take their place then, as in
Xiao et al., "SmoothQuant", ICML 2023.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.quantization.fake_quant import FakeQuantize, Requantize
from zoo.quantization.layer_walk import QuantLayer
from zoo.quantization.lowering import GlobalAveragePool, Unfused
from zoo.quantization.operator_roles import is_plain_relu
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear
from zoo.quantization.quantizer_switches import rounding_off
from zoo.surgery import calls_of, layer_of

#: A channel is divided by at most this, and multiplied by at most this, relative to the others.
_MOST = 32.0
_HOMOGENEOUS = (
    nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.UpsamplingNearest2d,
    nn.UpsamplingBilinear2d, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.Identity, GlobalAveragePool,
    Unfused, Requantize,
)  # fmt: skip
_HOMOGENEOUS_FUNCTIONS = frozenset({F.leaky_relu, F.max_pool2d, F.avg_pool2d})


@dataclass(frozen=True)
class LayerPair:
    """Two layers with nothing but homogeneous operators between them.

    Attributes:
        first: Whose output channels are divided.
        second: Whose input channels are multiplied.
        limit: At which the values between are clipped; None if they are not.
    """

    first: QuantLayer
    second: QuantLayer
    limit: float | None


def equalize(module: fx.GraphModule, batches: Sequence[Tensor]) -> int:
    """Balance the channels between all pairs of layers; without rounding, the network computes the same.

    Where values are clipped, as by ReLU6, a channel may only become larger, up to the clip, as if it was clipped at the
    largest of its values on `batches`: then that is no longer the same for larger ones.

    Weights' scales are set anew; those of activations have to be: calibrate the network again.

    Args:
        module: A network from :func:`zoo.quantization.prepare.prepare`, calibrated and in eval mode; changed in place.
        batches: (N, C, H, W) each.

    Returns:
        The number of pairs.
    """
    pairs = list(find_pairs(module))
    largest = _largest_inputs(module, [pair.second for pair in pairs], batches)
    with torch.no_grad():
        for pair in pairs:
            _balance(pair, largest[pair.second])
    for layer in {each for pair in pairs for each in (pair.first, pair.second)}:
        layer.weight_quantizer.observe_weight(layer.weight)
    return len(pairs)


def find_pairs(module: fx.GraphModule) -> Iterator[LayerPair]:
    """Yield the pairs of a network in the order in which it runs them."""
    for node in module.graph.nodes:
        first = layer_of(module, node)
        if not isinstance(first, (QuantConv2d, QuantLinear)) or len(calls_of(module, first)) != 1:
            continue
        limit: float | None = None
        after = node
        while len(after.users) == 1:
            after = next(iter(after.users))
            second = layer_of(module, after)
            if isinstance(second, (QuantConv2d, QuantLinear)):
                if len(calls_of(module, second)) == 1 and _matches(first, second):
                    yield LayerPair(first, second, limit)
                break
            if isinstance(second, FakeQuantize):
                limit = second.limit if limit is None else limit
            elif not _is_homogeneous(module, after):
                break


def _matches(first: QuantLayer, second: QuantLayer) -> bool:
    """Whether the input channels of the second layer are the output channels of the first."""
    inputs = second.in_features if isinstance(second, QuantLinear) else second.in_channels
    return bool(inputs == first.weight.shape[0]) and (_is_depthwise(second) or not _has_groups(second))


def _is_depthwise(layer: QuantLayer) -> bool:
    return isinstance(layer, QuantConv2d) and layer.groups == layer.in_channels


def _has_groups(layer: QuantLayer) -> bool:
    return isinstance(layer, QuantConv2d) and layer.groups > 1


def _is_homogeneous(module: fx.GraphModule, node: fx.Node) -> bool:
    layer = layer_of(module, node)
    if layer is not None:
        return isinstance(layer, _HOMOGENEOUS) or is_plain_relu(node, module)
    if node.target in _HOMOGENEOUS_FUNCTIONS or is_plain_relu(node, module):
        return True
    # From (N, C, 1, 1) to (N, C).
    shape = (
        node.all_input_nodes[0].meta["tensor_meta"].shape if node.target in (torch.flatten, "flatten") else ()
    )
    return len(shape) == 4 and shape[2:] == (1, 1)


def _largest_inputs(
    module: fx.GraphModule, layers: Sequence[QuantLayer], batches: Sequence[Tensor]
) -> dict[QuantLayer, Tensor]:
    """The largest magnitude of each channel that reaches a layer in float, (C,)."""
    found: dict[QuantLayer, Tensor] = {}

    def note(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, (QuantConv2d, QuantLinear))
        axis = 1 if isinstance(layer, QuantConv2d) else -1
        seen = args[0].detach().abs().movedim(axis, 0).flatten(1).amax(1)
        found[layer] = torch.maximum(found[layer], seen) if layer in found else seen

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with torch.no_grad(), rounding_off(module):
            for batch in batches:
                module(batch.to(next(module.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _balance(pair: LayerPair, largest: Tensor) -> None:
    first, second = pair.first, pair.second
    per_channel = first.weight_quantizer.channels is not None
    before = largest if per_channel or pair.limit is not None else first.weight.abs().flatten(1).amax(1)
    factors = before / before.max()
    if pair.limit is not None:
        factors = largest / pair.limit
    elif not (_is_depthwise(second) and per_channel):
        behind = second.weight.abs()
        behind = (
            behind.flatten(1).amax(1) if _is_depthwise(second) else behind.movedim(1, 0).flatten(1).amax(1)
        )
        factors = (before / behind.clamp(min=1e-12)).sqrt()
    seen = (largest > 0) & (before > 0) & torch.isfinite(factors) & (factors > 0)
    if not bool(seen.any()):
        return
    if pair.limit is None:
        factors = factors / factors[seen].log().mean().exp()
        factors = factors.clamp(1 / _MOST, _MOST)
    else:
        factors = factors.clamp(1 / _MOST, 1.0)
    factors = torch.where(seen, factors, 1.0)
    first.weight.div_(factors.view(-1, *(1,) * (first.weight.ndim - 1)))
    if first.bias is not None:
        first.bias.div_(factors)
    shape = [1] * second.weight.ndim
    shape[0 if _is_depthwise(second) else 1] = -1
    second.weight.mul_(factors.view(shape))
