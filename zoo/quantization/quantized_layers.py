"""Convolution and linear layers that compute with fake-quantized weights."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.quantization.fake_quant import FakeQuantize


class QuantConv2d(nn.Conv2d):
    """`nn.Conv2d` with a fake-quantized weight; same parameters, plus the weight's scales."""

    weight_quantizer: FakeQuantize

    @classmethod
    def of(cls, conv: nn.Conv2d, quantizer: FakeQuantize) -> QuantConv2d:
        """Take over the parameters of `conv`, which must pad with zeros."""
        with torch.device("meta"):
            new = cls(
                conv.in_channels, conv.out_channels, cast("tuple[int, int]", conv.kernel_size),
                cast("tuple[int, int]", conv.stride), cast("tuple[int, int] | str", conv.padding),
                cast("tuple[int, int]", conv.dilation), conv.groups, bias=False,
            )  # fmt: skip
        new.weight, new.bias = conv.weight, conv.bias
        new.weight_quantizer = quantizer
        return new.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, self.weight_quantizer(self.weight), self.bias)
        return out


class QuantLinear(nn.Linear):
    """`nn.Linear` with a fake-quantized weight; same parameters, plus the weight's scales."""

    weight_quantizer: FakeQuantize

    @classmethod
    def of(cls, linear: nn.Linear, quantizer: FakeQuantize) -> QuantLinear:
        """Take over the parameters of `linear`."""
        new = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        new.weight, new.bias = linear.weight, linear.bias
        new.weight_quantizer = quantizer
        return new.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight_quantizer(self.weight), self.bias)
