"""Biases and scales of weights that correct what rounding does to the statistics of each channel, layer after layer.

Papers: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, for means, in
the empirical form of its appendix; Sun et al., "Hybrid 8-bit Floating Point (HFP8) Training and Inference for Deep
Neural Networks", NeurIPS 2019, section 3.2, for batch norms re-estimated after rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from zoo.quantization.fold import SkipLayer
from zoo.quantization.layer_walk import QuantLayer, layers_called_once, network_device, walk_layers
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear
from zoo.quantization.quantizer_switches import rounding_off

#: What a channel's deviation is multiplied or divided by at most, and the least deviation for which that is done at
#: all, as a share of the layer's.
_MOST, _LEAST = 1.25, 1e-3


def correct_biases(
    module: fx.GraphModule,
    batches: Sequence[Tensor],
    skip_layer: SkipLayer,
    *,
    deviations: bool = False,
    wanted: Mapping[str, Moments] | None = None,
) -> int:
    """Add to each layer's bias the mean error, per channel, that rounding causes in its output.

    The layers are corrected in the order in which the network runs them, each on inputs that contain the rounding
    error and the corrections so far. A layer without a bias gets one.

    With `deviations` the standard deviation of each channel becomes what it was, too, by the scale of the channel's
    weights: what a batch norm behind the layer would do whose statistics were estimated again.

    Args:
        module: The network, calibrated and in eval mode; changed in place.
        batches: (N, C, H, W) each.
        skip_layer: Called with (layer, reason) for each layer that is not corrected, being called more than once.
        deviations: Whether deviations are corrected, of layers with a scale of weights for each channel.
        wanted: The moments to restore, from :func:`moments_without_rounding`; by default those of the network now.

    Returns:
        The number of layers corrected.
    """
    device = network_device(module)
    batches = [batch.to(device) for batch in batches]
    layers = layers_called_once(module, skip_layer, "its bias is not corrected")
    with torch.no_grad():
        wanted = moments_without_rounding(module, batches) if wanted is None else wanted
        walk = walk_layers(module, batches, layers)
        with contextlib.suppress(StopIteration):
            step = next(walk)
            while True:
                outputs = step.outputs()
                found = Moments(step.layer)
                for output in outputs:
                    found.add(output)
                factor, shift = _correct(step.layer, found, wanted[step.path], deviations=deviations)
                step = walk.send([output * factor + shift for output in outputs])
    return len(layers)


def _correct(
    layer: QuantLayer, found: Moments, wanted: Moments, *, deviations: bool
) -> tuple[Tensor, Tensor]:
    """Change a layer so that its output has the moments that are wanted; factor and shift of what it gave before."""
    factor = torch.ones_like(found.mean())
    if deviations and layer.weight_quantizer.channels is not None:
        now, before = found.deviation(), wanted.deviation()
        usable = torch.minimum(now, before) > _LEAST * before.max()
        factor = torch.where(usable, before / now, 1.0).clamp(1 / _MOST, _MOST)
        layer.weight.mul_(factor.float().view(-1, *(1,) * (layer.weight.ndim - 1)))
        layer.weight_quantizer.log_scale.add_(factor.log().float())
    shift = (wanted.mean() - factor * found.mean()).float()
    factor = factor.float()
    layer.bias = nn.Parameter(shift.clone() if layer.bias is None else layer.bias * factor + shift)
    shape = (-1, 1, 1) if isinstance(layer, QuantConv2d) else (-1,)
    return factor.view(shape), shift.view(shape)


def moments_without_rounding(module: fx.GraphModule, batches: Sequence[Tensor]) -> dict[str, Moments]:
    """Return the moments of each channel of the result in float, by path, of each layer with quantized weights.

    Args:
        module: The network, in eval mode.
        batches: (N, C, H, W) each.
    """
    layers = {
        path: layer for path, layer in module.named_modules() if isinstance(layer, (QuantConv2d, QuantLinear))
    }
    found = {path: Moments(layer) for path, layer in layers.items()}
    hooks = [
        layer.register_forward_hook(lambda _layer, _args, output, path=path: found[path].add(output))
        for path, layer in layers.items()
    ]
    device = network_device(module)
    try:
        with torch.no_grad(), rounding_off(module):
            for batch in batches:
                module(batch.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


class Moments:
    """Mean and deviation of each output channel of `layer` over batches, (C,) in float64."""

    def __init__(self, layer: QuantLayer) -> None:
        self._axis = 1 if isinstance(layer, QuantConv2d) else -1
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0
        self._count = 0

    def add(self, output: Tensor) -> None:
        """Add the output of one batch, (N, C, H, W) or (..., C)."""
        rows = output.movedim(self._axis, 0).flatten(1).double()
        self._sum = self._sum + rows.sum(1)
        self._squares = self._squares + torch.linalg.vecdot(rows, rows)
        self._count += rows.shape[1]

    def mean(self) -> Tensor:
        """Return the mean of each channel, (C,)."""
        assert isinstance(self._sum, Tensor), "there is at least one batch"
        return self._sum / self._count

    def deviation(self) -> Tensor:
        """Return the standard deviation of each channel, (C,)."""
        assert isinstance(self._squares, Tensor), "there is at least one batch"
        return (self._squares / self._count - self.mean().square()).clamp(min=0).sqrt()
