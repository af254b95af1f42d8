"""Weights rounded up or down by what that does to their layer's output, instead of to the nearest level.

Paper: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020. The objective is the
paper's, with inputs that contain the rounding error of the layers before (section 3.3): for an output channel with
weights w, rounded to v, the mean square of v x' - y over positions, x' being the inputs as they are rounded and y the
float network's output. It depends on second moments alone. The paper relaxes it and descends the gradient for 10,000
steps a layer; here one weight after the other moves to its other level, whichever lowers it most, until none does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from zoo.quantization.fold import SkipLayer
from zoo.quantization.layer_walk import LayerStep, QuantLayer, layers_called_once, network_device, walk_layers
from zoo.quantization.quantized_layers import QuantLinear
from zoo.quantization.quantizer_switches import rounding_off
from zoo.surgery.reconstruction import (
    dense_weight,
    draw_positions,
    extract_patches,
    fits_in_memory,
    groups_of,
    pixels_at,
    store_dense_weight,
)

#: Positions of a layer's output that its second moments come from.
_POSITIONS = 8192
#: Variance of white inputs that stand for the data not seen, as a share of an input's mean square.
_RIDGE = 1e-2
#: A change must lower the error of a channel by this share of what nearest rounding gives.
_LEAST = 1e-6


def round_adaptively(module: fx.GraphModule, batches: Sequence[Tensor], skip_layer: SkipLayer) -> int:
    """Move weights to the levels above or below them that give each layer the least error, in network order.

    Args:
        module: The network, calibrated and in eval mode. Its weights change in place, to multiples of their scales.
        batches: (N, C, H, W) each.
        skip_layer: Called with (layer, reason) for each layer whose weights are rounded to the nearest level.

    Returns:
        The number of weights that are not rounded to the nearest level.
    """
    device = network_device(module)
    batches = [batch.to(device) for batch in batches]
    layers = layers_called_once(module, skip_layer, "its weights are rounded to the nearest level")
    generator = torch.Generator().manual_seed(0)
    moved = 0
    with torch.no_grad(), contextlib.suppress(StopIteration):
        rounded, exact = (walk_layers(module, batches, layers) for _ in range(2))
        step = next(rounded)
        with rounding_off(module):
            reference = next(exact)
        while True:
            with rounding_off(module):
                targets = reference.outputs()
            moved += _round_layer(step, targets, generator, skip_layer)
            with rounding_off(module):
                # The float network goes on with what its layer gave before.
                following = exact.send(targets)
            step, reference = rounded.send(step.outputs()), following
    return moved


def _round_layer(
    step: LayerStep, targets: list[Tensor], generator: torch.Generator, skip_layer: SkipLayer
) -> int:
    layer = step.layer
    weight = dense_weight(layer).flatten(2)  # (groups, out, features)
    if not fits_in_memory(weight.shape[0], weight.shape[2]):
        skip_layer(step.path, "too many inputs: its weights are rounded to the nearest level")
        return 0
    second, cross = _second_moments(layer, step.inputs, targets, weight, generator)
    quantizer = layer.weight_quantizer
    scale = quantizer.scale.detach().cpu()
    steps = scale.view(weight.shape[0], -1, 1) if scale.numel() > 1 else scale.view(1, 1, 1)
    nearest = (weight / steps).clamp(quantizer.low, quantizer.high).round()
    levels = _descend(weight, steps, nearest, second, cross, quantizer.low, quantizer.high)
    store_dense_weight(layer, levels * steps)
    return int((levels != nearest).sum())


def _second_moments(
    layer: QuantLayer, inputs: list[Tensor], targets: list[Tensor], weight: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """E[x' x'] of the patches that a layer sees, (groups, features, features), and E[(y - w x') x'], as `weight`."""
    groups, outputs, features = weight.shape
    second = torch.zeros(groups, features, features)
    cross = torch.zeros(groups, outputs, features)
    count = 0
    bias = layer.bias.detach().cpu() if layer.bias is not None else torch.zeros(groups * outputs)
    images = sum(len(each) for each in inputs)
    for x, y in zip(inputs, targets, strict=True):
        for image, target in zip(*_as_images(layer, x, y), strict=True):
            at = draw_positions(target.shape[-2:], max(1, _POSITIONS // images), generator)
            seen = extract_patches(layer, image[None], at).cpu()
            patches = seen.reshape(len(at), groups_of(layer), -1).transpose(0, 1)
            wanted = (pixels_at(target, at).cpu() - bias).view(len(at), groups, outputs).transpose(0, 1)
            missed = wanted - patches @ weight.transpose(1, 2)
            second += patches.transpose(1, 2) @ patches
            cross += missed.transpose(1, 2) @ patches
            count += len(at)
    second, cross = second / count, cross / count
    power = second.diagonal(dim1=1, dim2=2).mean(1)
    second.diagonal(dim1=1, dim2=2).add_(_RIDGE * power[:, None])
    return second, cross


def _as_images(layer: QuantLayer, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and outputs as (N, C, H, W): the positions of a linear layer are a column of pixels."""
    if not isinstance(layer, QuantLinear):
        return x, y
    if x.ndim == 2:  # one position each: a picture of all of them
        x, y = x[None], y[None]
    return tuple(each.flatten(1, -2).transpose(1, 2)[..., None] for each in (x, y))  # type: ignore[return-value]


def _descend(
    weight: Tensor, steps: Tensor, nearest: Tensor, second: Tensor, cross: Tensor, low: int, high: int
) -> Tensor:
    """Levels with less error than the nearest ones: one weight of each channel at a time goes to its other level.

    With d = v - w the error of a channel is d S d' - 2 d c', S being the second moments and c the cross moments.
    """
    levels = nearest.clone()
    other = torch.where(nearest * steps > weight, nearest - 1, nearest + 1).clamp(low, high)
    off = nearest * steps - weight
    product = off @ second  # d S
    diagonal = second.diagonal(dim1=1, dim2=2)[:, None]
    errors = (off * product).sum(2) - 2 * (off * cross).sum(2)
    enough = _LEAST * errors.abs().clamp(min=1e-30)
    for _ in range(2 * weight.shape[2]):
        change = (other - levels) * steps
        gains = 2 * change * (product - cross) + change.square() * diagonal
        best, at = gains.min(2, keepdim=True)
        better = best < -enough[..., None]
        if not bool(better.any()):
            break
        moved = torch.where(better, change.gather(2, at), 0.0)
        product += moved * _rows(second, at)
        now, then = levels.gather(2, at), other.gather(2, at)
        levels.scatter_(2, at, torch.where(better, then, now))
        other.scatter_(2, at, torch.where(better, now, then))
    return levels


def _rows(second: Tensor, at: Tensor) -> Tensor:
    """The row of S that belongs to the weight of each channel: (groups, out, 1) to (groups, out, features)."""
    groups, outputs, _ = at.shape
    features = second.shape[2]
    return second.gather(1, at.expand(groups, outputs, features))
