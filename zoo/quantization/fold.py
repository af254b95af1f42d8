"""Batch normalisation folded into the convolution or linear layer before it, as at inference."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.surgery import replace_named
from zoo.surgery.plain_layers import is_plain

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

SkipLayer = Callable[[str, str], None]


class ShiftedRelu(nn.Module):
    """A ReLU and the batch norm after it, once the norm's scale has been absorbed by the layer before.

    For a scale a and a shift b of a channel, ``a * relu(x) + b`` is the greater of ``a * x + b`` and ``b`` if a > 0,
    and the lesser of them otherwise. The layer before computes ``a * x + b``; `shift` is b. Any shape whose second
    dimension is the channel.
    """

    negative: Tensor

    def __init__(self, shift: Tensor, negative: Tensor) -> None:
        super().__init__()
        self.shift = nn.Parameter(shift.detach().clone())
        self.register_buffer("negative", negative.clone())
        self._mixed = bool(negative.any())

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.ndim - 2))
        shift = self.shift.view(shape)
        if not self._mixed:
            return torch.maximum(x, shift)
        beyond = torch.finfo(self.shift.dtype).max
        negative = self.negative.view(shape)
        x = torch.maximum(x, torch.where(negative, -beyond, shift))
        return torch.minimum(x, torch.where(negative, shift, beyond))


def fold_batch_norms(module: fx.GraphModule, skip_layer: SkipLayer) -> int:
    """Fold every batch norm that follows a layer of its own; exact up to rounding, in eval mode.

    If the norm follows a layer and its ReLU, the scale goes into the layer and the shift into a :class:`ShiftedRelu`.
    If it follows something else, it becomes a 1 x 1 depthwise convolution, which integers can compute too, unless
    that is a layer that stays in float. A norm without running statistics depends on its batch and stays.

    Args:
        module: A traced network, changed in place.
        skip_layer: Called with (layer, reason) for each norm that stays.

    Returns:
        The number of norms folded.
    """
    _split_fused_activations(module)
    calls = Counter(node.target for node in module.graph.nodes if node.op == "call_module")
    folded = 0
    for node in list(module.graph.nodes):
        if node.op != "call_module":
            continue
        norm = module.get_submodule(node.target)
        if not isinstance(norm, _BATCH_NORMS):
            continue
        if norm.running_mean is None or norm.running_var is None:
            skip_layer(node.target, "batch norm without running statistics depends on the batch")
            continue
        before = node.args[0]
        relu = before if len(before.users) == 1 and before.args and _is_relu(before, module) else None
        source = relu.args[0] if relu is not None else before
        layer = module.get_submodule(source.target) if source.op == "call_module" else None
        scale, shift = _affine(norm)
        if (
            layer is not None
            and is_plain(layer)
            and len(source.users) == 1
            and calls[source.target] == calls[node.target] == 1
            and not (isinstance(layer, nn.Linear) and source.meta["tensor_meta"].shape[1:-1])
        ):
            _absorb(layer, scale, shift)
            if relu is None:
                node.replace_all_uses_with(source)
                module.graph.erase_node(node)
            else:
                replace_named(module, node.target, ShiftedRelu(shift, scale < 0))
                node.args = (source,)
                module.graph.erase_node(relu)
        elif layer is not None and _stays_float(layer):
            continue  # rounding the unscaled output of a float layer would only lose precision
        elif isinstance(norm, nn.BatchNorm2d):
            replace_named(module, node.target, _as_depthwise(scale, shift))
        else:
            skip_layer(node.target, "batch norm that follows no convolution")
            continue
        folded += 1
    module.delete_all_unused_submodules()
    module.recompile()
    return folded


def scale_and_shift(layer: nn.Module, factor: float, number: float) -> None:
    """Let a layer give ``factor * y + number`` where it gave y, in place; it must be plain."""
    weight = cast(Tensor, layer.weight)
    outputs = layer.groups * weight.shape[1] if isinstance(layer, _TRANSPOSED) else weight.shape[0]
    _absorb(layer, weight.new_full((outputs,), factor), weight.new_full((outputs,), number))


def _stays_float(layer: nn.Module) -> bool:
    """Whether a layer has weights that are not rounded: what it computes lies in a float graph, unscaled."""
    return isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)) and not is_plain(layer)


def _is_relu(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))) is nn.ReLU
    return node.target in (F.relu, torch.relu, "relu")


def _split_fused_activations(module: fx.GraphModule) -> None:
    """timm's BatchNormAct2d is a batch norm, a dropout and an activation in one: take it apart."""
    if "timm" not in sys.modules:
        return
    layers: Any = importlib.import_module("timm.layers")
    for node in list(module.graph.nodes):
        if node.op != "call_module":
            continue
        fused = module.get_submodule(node.target)
        if not isinstance(fused, layers.BatchNormAct2d):
            continue
        norm = nn.BatchNorm2d(fused.num_features, fused.eps, affine=fused.affine, device="meta")
        norm.weight, norm.bias = fused.weight, fused.bias
        norm.running_mean, norm.running_var = fused.running_mean, fused.running_var
        parts = nn.Module()
        parts.norm, parts.act = norm.eval(), fused.act
        replace_named(module, node.target, parts)
        with module.graph.inserting_after(node):
            act = module.graph.call_module(f"{node.target}.act", (node,))
        act.meta = dict(node.meta)
        node.replace_all_uses_with(act, delete_user_cb=lambda user, act=act: user is not act)
        node.target = f"{node.target}.norm"


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """The normalisation as scale * x + shift, (C,) each."""
    with torch.no_grad():
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = (variance + norm.eps).rsqrt()
        if norm.affine:
            scale = scale * norm.weight
        shift = -mean * scale
        return scale, shift + norm.bias if norm.affine else shift


def _absorb(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    weight, bias = cast(Tensor, layer.weight), cast("Tensor | None", layer.bias)
    with torch.no_grad():
        if isinstance(layer, _TRANSPOSED):  # (in, out / groups, ...): output channels are grouped
            per_group = weight.shape[1]
            rows = scale.view(layer.groups, 1, per_group).expand(-1, weight.shape[0] // layer.groups, -1)
            factor = rows.reshape(weight.shape[0], per_group)
            factor = factor.view(*factor.shape, *(1,) * (weight.ndim - 2))
        else:
            factor = scale.view(-1, *(1,) * (weight.ndim - 1))
        layer.weight = nn.Parameter(weight * factor)
        layer.bias = nn.Parameter(shift.clone() if bias is None else bias * scale + shift)


def _as_depthwise(scale: Tensor, shift: Tensor) -> nn.Conv2d:
    channels = scale.numel()
    conv = nn.Conv2d(channels, channels, 1, groups=channels, device="meta")
    conv.weight = nn.Parameter(scale.detach().view(-1, 1, 1, 1).clone())
    conv.bias = nn.Parameter(shift.detach().clone())
    return conv.eval()
