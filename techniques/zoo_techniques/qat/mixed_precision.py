"""Widths for the weights of single layers, assigned from what each width costs.

The cost is measured, without derivatives: the error of the network's output when one layer alone is rounded, as in
the sensitivity analysis of Wu et al., "Integer Quantization for Deep Learning Inference", 2020 (arXiv:2004.09602).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zoo.quantization.fake_quant import FakeQuantize

#: The widths to choose from, widest first.
WIDTHS = (8, 6, 5, 4, 3, 2)


def assign_widths(
    module: nn.Module,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    batches: Sequence[Tensor],
    average: float,
    fixed: Mapping[str, int],
    *,
    per_channel: bool,
) -> dict[str, int]:
    """Return widths whose average over all weights is at most `average` bits, or the narrowest ones if none is.

    Starting from 8 bits everywhere, the layer that adds the least error for each bit it saves is narrowed by one width,
    until the average is reached; errors of several layers are taken to add up.

    Args:
        module: The network in float, in eval mode; left as it was.
        layers: The layers by path.
        batches: (N, C, H, W) each.
        average: Bits per weight.
        fixed: Widths that are given, by path.
        per_channel: Whether each output channel has a scale of its own.
    """
    free = [path for path in layers if path not in fixed]
    errors = _errors(module, {path: layers[path] for path in free}, batches, per_channel=per_channel)
    sizes = {path: layer.weight.numel() for path, layer in layers.items()}
    chosen = {**dict.fromkeys(free, WIDTHS[0]), **fixed}
    too_much = sum(chosen[path] * size for path, size in sizes.items()) - average * sum(sizes.values())
    steps: list[tuple[float, int, int]] = []

    def offer(index: int, place: int) -> None:
        """Put the step of a layer to the width at `place` among those to choose from."""
        path = free[index]
        saved = sizes[path] * (WIDTHS[place - 1] - WIDTHS[place])
        heapq.heappush(steps, ((errors[path][place] - errors[path][place - 1]) / saved, index, place))

    for index in range(len(free)):
        offer(index, 1)
    while too_much > 0 and steps:
        _, index, place = heapq.heappop(steps)
        chosen[free[index]] = WIDTHS[place]
        too_much -= sizes[free[index]] * (WIDTHS[place - 1] - WIDTHS[place])
        if place + 1 < len(WIDTHS):
            offer(index, place + 1)
    return chosen


def _errors(
    module: nn.Module,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    batches: Sequence[Tensor],
    *,
    per_channel: bool,
) -> dict[str, list[float]]:
    """The mean squared error of the output with one layer's weights rounded, at each of the widths."""
    device = next(module.parameters()).device
    batches = [batch.to(device) for batch in batches]
    with torch.no_grad():
        expected = [module(batch) for batch in batches]
        found: dict[str, list[float]] = {}
        for path, layer in layers.items():
            weight = layer.weight.detach().clone()
            try:
                found[path] = []
                for bits in WIDTHS:
                    layer.weight.copy_(_round(weight, bits, per_channel=per_channel))
                    pairs = zip(batches, expected, strict=True)
                    found[path].append(sum(float((module(x) - y).square().mean()) for x, y in pairs))
            finally:
                layer.weight.copy_(weight)
    return found


def _round(weight: Tensor, bits: int, *, per_channel: bool) -> Tensor:
    channels = weight.shape[0] if per_channel else None
    quantizer = FakeQuantize(bits, "mse", weight=True, channels=channels).to(weight.device).eval()
    quantizer.observe_weight(weight)
    return quantizer(weight)  # type: ignore[no-any-return]
