"""Layers with fewer channels: the parameters that belong to the others are dropped, in place."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

#: Layers of which inputs or outputs can be dropped.
WEIGHTED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)


def input_channels(layer: nn.Module) -> int:
    """Channels that a convolution or linear layer takes."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else cast(Any, layer).in_channels)


def output_channels(layer: nn.Module) -> int:
    """Channels that a convolution or linear layer gives."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else cast(Any, layer).out_channels)


def keep_along(owner: nn.Module, name: str, axis: int, index: Tensor) -> None:
    """Keep the slices `index` along an axis of a parameter or buffer; None stays None."""
    old = getattr(owner, name)
    if old is None:
        return
    new = old.detach().index_select(axis, index.to(old.device)).clone()
    setattr(owner, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def keep_inputs(layer: nn.Module, index: Tensor) -> None:
    """Keep the input channels `index` (sorted) of a layer.

    A grouped convolution must lose as many in each group, and the same ones of each; a depthwise one loses its
    outputs with its inputs.
    """
    if isinstance(layer, nn.Linear):
        keep_along(layer, "weight", 1, index)
        layer.in_features = len(index)
        return
    conv = cast(nn.Conv2d, layer)
    width = conv.in_channels // conv.groups
    if isinstance(layer, _TRANSPOSED):
        keep_along(layer, "weight", 0, index)
    else:
        keep_along(layer, "weight", 1, index[index < width])
    conv.in_channels = len(index)


def keep_outputs(layer: nn.Module, index: Tensor) -> None:
    """Keep the output channels `index` (sorted) of a layer; for groups see :func:`keep_inputs`."""
    keep_along(layer, "bias", 0, index)
    if isinstance(layer, nn.Linear):
        keep_along(layer, "weight", 0, index)
        layer.out_features = len(index)
        return
    conv = cast(nn.Conv2d, layer)
    if isinstance(layer, _TRANSPOSED):
        width = conv.out_channels // conv.groups
        keep_along(layer, "weight", 1, index[index < width])
    else:
        keep_along(layer, "weight", 0, index)
    conv.out_channels = len(index)


def keep_depthwise(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """Keep channels of a depthwise convolution, which has a group for each input."""
    conv = cast(nn.Conv2d, layer)
    keep_along(layer, "weight", 0, inputs if isinstance(layer, _TRANSPOSED) else outputs)
    keep_along(layer, "bias", 0, outputs)
    conv.in_channels = conv.groups = len(inputs)
    conv.out_channels = len(outputs)


def keep_features(layer: nn.Module, index: Tensor) -> None:
    """Keep the channels `index` of a normalisation or a PReLU, which give as many as they take."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        if hasattr(layer, name):
            keep_along(layer, name, 0, index)
    if isinstance(layer, _NormBase):
        layer.num_features = len(index)
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = len(index)
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (len(index),)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(index)


def reset_inputs(layer: nn.Module, channels: int) -> None:
    """Let a layer without groups take another number of channels; its weights are zeros, to be fitted."""
    old = cast(Tensor, layer.weight)
    axis = 0 if isinstance(layer, _TRANSPOSED) else 1
    shape = list(old.shape)
    shape[axis] = channels
    layer.weight = nn.Parameter(torch.zeros(shape, dtype=old.dtype, device=old.device), old.requires_grad)
    setattr(layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", channels)


def identity_conv(channels: int, *, like: Tensor) -> nn.Conv2d:
    """A 1 x 1 convolution that gives what it takes."""
    conv = nn.Conv2d(channels, channels, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(channels)[..., None, None])
        cast(nn.Parameter, conv.bias).zero_()
    return conv.to(like.device, like.dtype).eval()
