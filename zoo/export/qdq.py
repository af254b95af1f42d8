"""The form quantization modules take in an exported file: QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.quantization.constant_operands import PlusConstant, TimesConstant
from zoo.quantization.fake_quant import FakeQuantize, Requantize
from zoo.quantization.fixed_point import FixedPointQuantizer, to_fixed_point
from zoo.quantization.lowering import DepthToSpace, GlobalAveragePool
from zoo.quantization.operator_roles import is_plain_relu
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear
from zoo.surgery import replace_named

#: The opset whose QuantizeLinear and DequantizeLinear are written.
OPSET = 19
#: Levels of an activation in the file, and the zero point that moves its levels there.
_SIGNED, _UNSIGNED = (-128, 127), (0, 255)


def _dequantize(x: Tensor, scale: Tensor, *zero_point: Tensor, axis: int | None = None) -> Tensor:
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    return torch.onnx.ops.symbolic(
        "DequantizeLinear", (x, scale, *zero_point), attributes,
        dtype=torch.float32, shape=x.shape, version=OPSET,
    )  # fmt: skip


class _QuantizeDequantize(nn.Module):
    """An activation's quantizer, to uint8: levels with a sign are moved by 128, or by as many as lie below 0.

    Ranges below 8 bits are cut with a Clip between two pairs. The first pair lets the engine compute what comes
    before in int8; the second puts the clipped values on their levels again.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, owner: FakeQuantize, *, clip: bool) -> None:
        super().__init__()
        self.register_buffer("scale", owner.scale.detach().reshape(()).clone())
        lowest, highest_level = _UNSIGNED if owner.low >= 0 else _SIGNED
        if owner.low < lowest or owner.high > highest_level:
            lowest, highest_level = owner.low, owner.high
        self.register_buffer("zero_point", torch.tensor(-lowest, dtype=torch.uint8))
        scale = float(self.scale)
        highest = owner.high * scale if owner.limit is None else min(owner.high * scale, owner.limit)
        narrow = owner.low > lowest or owner.high < highest_level
        self.limits = (owner.low * scale, highest) if clip and narrow else None

    def _pair(self, x: Tensor) -> Tensor:
        levels = torch.onnx.ops.symbolic(
            "QuantizeLinear", (x, self.scale, self.zero_point), {},
            dtype=torch.uint8, shape=x.shape, version=OPSET,
        )  # fmt: skip
        return _dequantize(levels, self.scale, self.zero_point)

    def forward(self, x: Tensor) -> Tensor:
        x = self._pair(x)
        return x if self.limits is None else self._pair(x.clamp(*self.limits))


class _ConstantOperand(nn.Module):
    """A sum or product with a number, which is the largest level of a quantized tensor with a sign."""

    number: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, owner: PlusConstant | TimesConstant) -> None:
        super().__init__()
        self._multiplies = isinstance(owner, TimesConstant)
        lowest, highest = _SIGNED
        self.register_buffer("number", torch.tensor(owner.value, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(abs(owner.value) / highest, dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor(-lowest, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        level = torch.onnx.ops.symbolic(
            "QuantizeLinear",
            (self.number, self.scale, self.zero_point),
            {},
            dtype=torch.uint8,
            shape=(),
            version=OPSET,
        )
        number = _dequantize(level, self.scale, self.zero_point)
        return x * number if self._multiplies else x + number


class _PublishedFixedPoint(_QuantizeDequantize):
    """The published fixed-point function, in float, and a pair for what computes with its values."""

    def __init__(self, owner: FixedPointQuantizer) -> None:
        super().__init__(owner, clip=False)
        self.ibits, self.fbits, self.limit = owner.ibits, owner.fbits, owner.limit

    def forward(self, x: Tensor) -> Tensor:
        if self.limit is not None:
            x = x.clamp(max=self.limit)
        unit = self.scale * 2.0**self.fbits
        return self._pair(to_fixed_point(x / unit, self.ibits, self.fbits) * unit)


class _Int8Weight(nn.Module):
    """A layer whose weight is stored as int8 with one scale per output channel, or one in all."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor

    def __init__(self, layer: QuantConv2d | QuantLinear) -> None:
        super().__init__()
        quantizer = layer.weight_quantizer
        scale = quantizer.scale.detach()
        shape = (-1, *(1,) * (layer.weight.ndim - 1))
        levels = (layer.weight.detach().float() / scale.view(shape)).round()
        self.axis = None if quantizer.channels is None else 0
        self.register_buffer("weight", levels.clamp(quantizer.low, quantizer.high).to(torch.int8))
        self.register_buffer("weight_scale", scale.reshape(()) if self.axis is None else scale.clone())
        # Engines take it for zero when it is left out, but ONNX Runtime then computes Gemm in float.
        self.register_buffer("weight_zero_point", torch.zeros_like(self.weight_scale, dtype=torch.int8))
        self.bias = layer.bias

    def dequantized(self) -> Tensor:
        return _dequantize(self.weight, self.weight_scale, self.weight_zero_point, axis=self.axis)


class _Int8Conv2d(_Int8Weight):
    def __init__(self, layer: QuantConv2d) -> None:
        super().__init__(layer)
        self.arguments: tuple[Any, ...] = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.dequantized(), self.bias, *self.arguments)


class _Int8Linear(_Int8Weight):
    """With `adds_bias`, the bias is an addition of its own.

    ONNX Runtime computes a Gemm whose result is not quantized in int8 only if it has no bias.
    """

    def __init__(self, layer: QuantLinear, *, adds_bias: bool) -> None:
        super().__init__(layer)
        self.adds_bias = adds_bias

    def forward(self, x: Tensor) -> Tensor:
        if self.adds_bias and self.bias is not None:
            return F.linear(x, self.dequantized()) + self.bias
        return F.linear(x, self.dequantized(), self.bias)


class _ExportedDepthToSpace(nn.Module):
    """DepthToSpace with channels ordered (row, column, channel)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        n, channels, h, w = x.shape
        k = self.size
        shape = (n, channels // k**2, k * h, k * w)
        return _operator("DepthToSpace", x, shape, blocksize=k, mode="DCR")


class _ExportedGlobalAveragePool(nn.Module):
    """GlobalAveragePool, which engines compute in int8; torch's exporter writes ReduceMean, which they do not."""

    def forward(self, x: Tensor) -> Tensor:
        return _operator("GlobalAveragePool", x, (*x.shape[:2], 1, 1))


def _operator(name: str, x: Tensor, shape: Sequence[int], **attributes: Any) -> Tensor:
    return torch.onnx.ops.symbolic(name, (x,), attributes, dtype=x.dtype, shape=shape, version=OPSET)


def insert_qdq_nodes(model: nn.Module) -> nn.Module:
    """Replace, in place, every quantization module of `model` by its exported form."""
    giving_floats = set(_giving_floats(model)) if isinstance(model, fx.GraphModule) else set()
    for path, module in list(model.named_modules()):
        if isinstance(module, FakeQuantize) and not module.weight:
            replace_named(model, path, _exported(module))
        elif isinstance(module, Requantize):
            # What is truncated must not be rounded before, so the operator before it stays in float.
            again = (
                nn.Identity() if _truncates(module.owner) else _QuantizeDequantize(module.owner, clip=False)
            )
            replace_named(model, path, again)
        elif isinstance(module, DepthToSpace):
            replace_named(model, path, _ExportedDepthToSpace(module.size))
        elif isinstance(module, GlobalAveragePool):
            replace_named(model, path, _ExportedGlobalAveragePool())
        elif isinstance(module, (PlusConstant, TimesConstant)):
            replace_named(model, path, _ConstantOperand(module))
        elif isinstance(module, QuantConv2d):
            replace_named(model, path, _Int8Conv2d(module))
        elif isinstance(module, QuantLinear):
            replace_named(model, path, _Int8Linear(module, adds_bias=path in giving_floats))
    return model


def _truncates(quantizer: FakeQuantize) -> TypeGuard[FixedPointQuantizer]:
    return isinstance(quantizer, FixedPointQuantizer) and quantizer.format == "paper"


def _exported(quantizer: FakeQuantize) -> _QuantizeDequantize:
    if _truncates(quantizer):
        return _PublishedFixedPoint(quantizer)
    return _QuantizeDequantize(quantizer, clip=True)


def _giving_floats(model: fx.GraphModule) -> Iterator[str]:
    """Paths of the modules whose result is not quantized, be it behind a ReLU, which is part of the rounding."""
    for node in model.graph.nodes:
        if node.op == "call_module":
            users = list(node.users)
            if len(users) == 1 and is_plain_relu(users[0], model):
                users = list(users[0].users)
            modules = [model.get_submodule(str(user.target)) for user in users if user.op == "call_module"]
            if not any(isinstance(user, (FakeQuantize, Requantize)) for user in modules):
                yield str(node.target)
