"""The form that dynamically quantized layers take in an exported file: integer operators with separate scales."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.export.qdq import OPSET
from zoo.quantization.dynamic import DynamicConv2d, DynamicLinear
from zoo.surgery import replace_named

#: Weights are stored as uint8 with this zero point: ONNX Runtime multiplies uint8 by uint8 several times as fast
#: as by int8 in these operators.
_ZERO = 128


class _DynamicLayer(nn.Module):
    """DynamicQuantizeLinear, an integer product, and the product of both scales."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    operator: str

    def __init__(self, layer: DynamicConv2d | DynamicLinear) -> None:
        super().__init__()
        quantizer = layer.weight_quantizer
        scale = quantizer.scale.detach()
        rows = scale.view(-1, *(1,) * (layer.weight.ndim - 1))
        levels = (layer.weight.detach().float() / rows).round().clamp(quantizer.low, quantizer.high)
        beside = (-1, *(1,) * (layer.weight.ndim - 2))
        self.register_buffer("weight", self.stored((levels + _ZERO).to(torch.uint8)))
        self.register_buffer("weight_scale", scale.reshape(beside if quantizer.channels else ()).clone())
        self.register_buffer("weight_zero_point", torch.tensor(_ZERO, dtype=torch.uint8))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().view(beside).clone())
        self.attributes: dict[str, Any] = {}

    def stored(self, levels: Tensor) -> Tensor:
        return levels

    def result_shape(self, x: Tensor) -> tuple[Any, ...]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        rounded, scale, zero_point = torch.onnx.ops.symbolic_multi_out(
            "DynamicQuantizeLinear", (x,), {}, version=OPSET,
            dtypes=(torch.uint8, torch.float32, torch.uint8), shapes=(x.shape, (), ()),
        )  # fmt: skip
        products = torch.onnx.ops.symbolic(
            self.operator, (rounded, self.weight, zero_point, self.weight_zero_point), self.attributes,
            dtype=torch.int32, shape=self.result_shape(x), version=OPSET,
        )  # fmt: skip
        y = products.to(torch.float32) * (scale * self.weight_scale)
        return y if self.bias is None else y + self.bias


class _ExportedConv(_DynamicLayer):
    operator = "ConvInteger"

    def __init__(self, layer: DynamicConv2d) -> None:
        super().__init__(layer)
        left, right, top, bottom = layer._reversed_padding_repeated_twice
        self.attributes = {
            "pads": [top, left, bottom, right], "strides": list(layer.stride), "dilations": list(layer.dilation),
            "group": layer.groups, "kernel_shape": list(layer.kernel_size),
        }  # fmt: skip

    def result_shape(self, x: Tensor) -> tuple[Any, ...]:
        a = self.attributes
        sides = [
            (
                x.shape[2 + i]
                + a["pads"][i]
                + a["pads"][2 + i]
                - a["dilations"][i] * (a["kernel_shape"][i] - 1)
                - 1
            )
            // a["strides"][i]
            + 1
            for i in (0, 1)
        ]
        return (x.shape[0], self.weight.shape[0], *sides)


class _ExportedLinear(_DynamicLayer):
    operator = "MatMulInteger"

    def stored(self, levels: Tensor) -> Tensor:
        return levels.T.contiguous()

    def result_shape(self, x: Tensor) -> tuple[Any, ...]:
        return (*x.shape[:-1], self.weight.shape[1])


def insert_dynamic_qdq_nodes(model: nn.Module) -> nn.Module:
    """Replace, in place, every dynamically quantized layer of `model` by its exported form."""
    for path, module in list(model.named_modules()):
        if isinstance(module, DynamicConv2d):
            replace_named(model, path, _ExportedConv(module))
        elif isinstance(module, DynamicLinear):
            replace_named(model, path, _ExportedLinear(module))
    return model
