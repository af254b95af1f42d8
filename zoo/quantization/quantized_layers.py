"""Convolution and linear layers that compute with fake-quantized weights, or keep theirs in 16 bits."""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.quantization.fake_quant import FakeQuantize

_Conv = TypeVar("_Conv", bound=nn.Conv2d)


class QuantConv2d(nn.Conv2d):
    """`nn.Conv2d` with a fake-quantized weight; same parameters, plus the weight's scales."""

    weight_quantizer: FakeQuantize

    @classmethod
    def of(cls, conv: nn.Conv2d, quantizer: FakeQuantize) -> QuantConv2d:
        """Take over the parameters of `conv`, which must pad with zeros."""
        new = _empty(cls, conv)
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


class Float16Conv2d(nn.Conv2d):
    """`nn.Conv2d` in float32 whose weight an exported file stores in float16."""

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Float16Conv2d:
        """Take over the parameters of `conv`, which must pad with zeros."""
        new = _empty(cls, conv)
        new.weight, new.bias = conv.weight, conv.bias
        return new.train(conv.training)


class Float16Linear(nn.Linear):
    """`nn.Linear` in float32 whose weight an exported file stores in float16."""

    @classmethod
    def of(cls, linear: nn.Linear) -> Float16Linear:
        """Take over the parameters of `linear`."""
        new = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        new.weight, new.bias = linear.weight, linear.bias
        return new.train(linear.training)


def round_to_float16(layer: Float16Conv2d | Float16Linear) -> None:
    """Round a layer's weight to the numbers of float16, in place; what is beyond the largest becomes that."""
    limit = torch.finfo(torch.float16).max
    with torch.no_grad():
        layer.weight.copy_(layer.weight.clamp(-limit, limit).half())


def weights_in_float16(model: nn.Module) -> frozenset[str]:
    """Return the names, in the state dict, of the weights that a file stores in float16."""
    return frozenset(
        f"{path}.weight"
        for path, layer in model.named_modules()
        if isinstance(layer, (Float16Conv2d, Float16Linear))
    )


def _empty(kind: type[_Conv], conv: nn.Conv2d) -> _Conv:
    """A convolution of the shape of `conv`, without storage."""
    with torch.device("meta"):
        return kind(
            conv.in_channels, conv.out_channels, cast("tuple[int, int]", conv.kernel_size),
            cast("tuple[int, int]", conv.stride), cast("tuple[int, int] | str", conv.padding),
            cast("tuple[int, int]", conv.dilation), conv.groups, bias=False,
        )  # fmt: skip
