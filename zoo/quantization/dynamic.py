"""Layers whose weights are int8 and whose input is rounded to 8 bits when it comes, by its own range."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, fx, nn

from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear
from zoo.surgery import replace_named

_LEVELS = 255


class DynamicRound(nn.Module):
    """Rounding as ONNX's DynamicQuantizeLinear does it: 256 levels from the least to the largest value.

    Zero is always among them. The range is that of the whole tensor, so that a picture's result depends on
    what else is in the batch.

    Attributes:
        mode: "quantize", or "off" to pass values through.
    """

    mode: Literal["off", "observe", "quantize"] = "quantize"

    def forward(self, x: Tensor) -> Tensor:
        if self.mode != "quantize":
            return x
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        scale = (high - low) / _LEVELS
        scale = torch.where(scale > 0, scale, 1.0)
        zero = (-low / scale).round()
        return ((x / scale).round() + zero).clamp(0, _LEVELS).sub(zero) * scale


class DynamicConv2d(QuantConv2d):
    """`nn.Conv2d` with a fake-quantized weight and a dynamically rounded input."""

    input_quantizer: DynamicRound

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.input_quantizer(x))


class DynamicLinear(QuantLinear):
    """`nn.Linear` with a fake-quantized weight and a dynamically rounded input."""

    input_quantizer: DynamicRound

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.input_quantizer(x))


def make_dynamic(module: fx.GraphModule) -> fx.GraphModule:
    """Make every layer with quantized weights round its input, in place."""
    for path, layer in list(module.named_modules()):
        dynamic: DynamicConv2d | DynamicLinear
        if type(layer) is QuantConv2d:
            dynamic = cast(DynamicConv2d, DynamicConv2d.of(layer, layer.weight_quantizer))
        elif type(layer) is QuantLinear:
            dynamic = cast(DynamicLinear, DynamicLinear.of(layer, layer.weight_quantizer))
        else:
            continue
        dynamic.input_quantizer = DynamicRound()
        replace_named(module, path, dynamic)
    return module
