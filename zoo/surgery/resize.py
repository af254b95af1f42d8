"""Changing the number of channels of a layer in place: parameters of removed channels are dropped."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

#: Layers of which inputs or outputs can be dropped.
WEIGHTED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)


def input_channels(layer: nn.Module) -> int:
    """Return the number of input channels of a convolution or linear layer."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else cast(Any, layer).in_channels)


def output_channels(layer: nn.Module) -> int:
    """Return the number of output channels of a convolution or linear layer."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else cast(Any, layer).out_channels)


def keep_along(owner: nn.Module, name: str, axis: int, index: Tensor) -> None:
    """Keep some slices of a parameter or buffer along one axis, and drop the others.

    Args:
        owner: The module that holds it, changed in place.
        name: The attribute; nothing happens if it is None.
        axis: The axis to cut.
        index: (kept,) indices of the slices to keep, in their new order.
    """
    old = getattr(owner, name)
    if old is None:
        return
    new = old.detach().index_select(axis, index.to(old.device)).clone()
    setattr(owner, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def keep_inputs(layer: nn.Module, index: Tensor) -> None:
    """Keep some input channels of a convolution or linear layer.

    A grouped convolution must lose the same channels in each of its groups. For a depthwise one use
    :func:`keep_depthwise`.

    Args:
        layer: Changed in place.
        index: (kept,) sorted indices of the channels to keep.
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
    """Keep some output channels of a convolution or linear layer; groups as in :func:`keep_inputs`.

    Args:
        layer: Changed in place.
        index: (kept,) sorted indices of the channels to keep.
    """
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
    """Keep some channels of a depthwise convolution, which has one group for each input channel.

    Args:
        layer: Changed in place.
        inputs: (kept inputs,) sorted indices of the input channels to keep.
        outputs: (kept outputs,) sorted indices of the output channels to keep.
    """
    conv = cast(nn.Conv2d, layer)
    keep_along(layer, "weight", 0, inputs if isinstance(layer, _TRANSPOSED) else outputs)
    keep_along(layer, "bias", 0, outputs)
    conv.in_channels = conv.groups = len(inputs)
    conv.out_channels = len(outputs)


def keep_features(layer: nn.Module, index: Tensor) -> None:
    """Keep some channels of a normalisation or PReLU, whose output has the channels of its input.

    Args:
        layer: Changed in place.
        index: (kept,) sorted indices of the channels to keep.
    """
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
    """Give a layer without groups another number of input channels; its weights become zeros, to be fitted.

    Args:
        layer: Changed in place; its bias stays.
        channels: The new number of input channels.
    """
    old = cast(Tensor, layer.weight)
    axis = 0 if isinstance(layer, _TRANSPOSED) else 1
    shape = list(old.shape)
    shape[axis] = channels
    layer.weight = nn.Parameter(torch.zeros(shape, dtype=old.dtype, device=old.device), old.requires_grad)
    setattr(layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", channels)


def identity_conv(channels: int, *, like: Tensor) -> nn.Conv2d:
    """Return a 1 x 1 convolution that computes the identity: (N, channels, H, W) to the same.

    Args:
        channels: Input and output channels.
        like: A tensor with the device and type that the convolution is to have.
    """
    conv = nn.Conv2d(channels, channels, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(channels)[..., None, None])
        cast(nn.Parameter, conv.bias).zero_()
    return conv.to(like.device, like.dtype).eval()
