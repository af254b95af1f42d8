"""Operators with weights, norms and pooling, as the layers of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from zoo.conversion.builder import UnsupportedOperator, integers
from zoo.conversion.converter_table import converts

if TYPE_CHECKING:
    from zoo.conversion.builder import Array, GraphBuilder, Operation, Value

_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORMS: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE_NORMS: dict[int, Any] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
_MAX_POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_MEAN_POOLS: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_GLOBAL_MEANS: dict[int, Any] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
_GLOBAL_MAXIMA: dict[int, Any] = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d}


def _parameter(values: Array) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(values, dtype=np.float32)))


def named_after(operation: Operation, index: int = 1) -> str:
    """Return what the layer of an operator is called: as its weight, if that is named as torch does, else its node."""
    weight = operation.input_names[index] if index < len(operation.input_names) else ""
    for suffix in (".weight", ".scale", ".gamma"):
        if weight.endswith(suffix):
            return weight.removesuffix(suffix)
    return operation.name


def _data(builder: GraphBuilder, operation: Operation) -> fx.Node:
    value = operation.input(0)
    if value is None:
        raise UnsupportedOperator("it has no input")
    return builder.tensor(value)


def _geometry(
    builder: GraphBuilder, operation: Operation, x: fx.Node, kernel: list[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return strides, dilations, and the padding at the beginning and at the end of each side."""
    axes = len(kernel)
    strides = integers(operation.get("strides", [1] * axes))
    dilations = integers(operation.get("dilations", [1] * axes))
    pads = integers(operation.get("pads", [0] * 2 * axes))
    auto = operation.get("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = [0] * 2 * axes
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        if not builder.fixed and any(stride != 1 for stride in strides):
            raise UnsupportedOperator(f"its padding, {auto}, depends on the size of the input")
        begin, end = [], []
        for side, size, stride, dilation in zip(
            builder.shape(x)[2:], kernel, strides, dilations, strict=True
        ):
            total = max(0, (-(-side // stride) - 1) * stride + dilation * (size - 1) + 1 - side)
            less = total // 2
            begin.append(less if auto == "SAME_UPPER" else total - less)
            end.append(total - begin[-1])
        pads = begin + end
    return strides, dilations, pads[:axes], pads[axes:]


def _padded(
    builder: GraphBuilder, x: fx.Node, begin: list[int], end: list[int], value: float = 0.0
) -> fx.Node:
    """Pad before a layer that can only pad both ends alike."""
    flat = [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
    return (
        builder.call(functional.pad, x, flat)
        if value == 0
        else builder.call(functional.pad, x, flat, value=value)
    )


@converts("Conv")
def _conv(builder: GraphBuilder, operation: Operation) -> Value:
    x = _data(builder, operation)
    weight, bias = operation.constant(1, "weight"), operation.constant(2, "bias")
    assert weight is not None
    kernel = list(weight.shape[2:])
    if len(kernel) not in _CONVOLUTIONS:
        raise UnsupportedOperator(f"it has {len(kernel)} spatial axes")
    strides, dilations, begin, end = _geometry(builder, operation, x, kernel)
    groups = int(operation.get("group", 1))
    if begin != end:
        x, begin = _padded(builder, x, begin, end), [0] * len(kernel)
    layer = _CONVOLUTIONS[len(kernel)](
        weight.shape[1] * groups, weight.shape[0], kernel, strides, begin, dilations, groups,
        bias=bias is not None, device="meta",
    )  # fmt: skip
    layer.weight = _parameter(weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    same = ("Conv", *operation.input_names[1:], *map(tuple, (strides, begin, dilations)), groups)
    return builder.layer(named_after(operation), layer, x, same=same)


@converts("ConvTranspose")
def _conv_transpose(builder: GraphBuilder, operation: Operation) -> Value:
    x = _data(builder, operation)
    weight, bias = operation.constant(1, "weight"), operation.constant(2, "bias")
    assert weight is not None
    kernel = list(weight.shape[2:])
    if operation.get("output_shape") is not None or operation.get("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        raise UnsupportedOperator("its padding is stated by the size of its output")
    strides, dilations, begin, end = _geometry(builder, operation, x, kernel)
    extra = integers(operation.get("output_padding", [0] * len(kernel)))
    # What one end is padded less is more output there.
    extra = [more + first - last for more, first, last in zip(extra, begin, end, strict=True)]
    if any(each < 0 or each >= max(s, d) for each, s, d in zip(extra, strides, dilations, strict=True)):
        raise UnsupportedOperator("it pads the two ends of a side differently")
    groups = int(operation.get("group", 1))
    layer = _TRANSPOSED[len(kernel)](
        weight.shape[0], weight.shape[1] * groups, kernel, strides, begin, extra, groups,
        bias=bias is not None, dilation=dilations, device="meta",
    )  # fmt: skip
    layer.weight = _parameter(weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    same = (
        "ConvTranspose",
        *operation.input_names[1:],
        *map(tuple, (strides, begin, extra, dilations)),
        groups,
    )
    return builder.layer(named_after(operation), layer, x, same=same)


def linear(
    builder: GraphBuilder,
    name: str,
    x: fx.Node,
    weight: Array,
    bias: Array | None,
    same: tuple[Any, ...] = (),
) -> fx.Node:
    """Add a linear layer.

    Args:
        builder: The graph.
        name: Of the layer.
        x: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,); None for none.
        same: See :meth:`zoo.conversion.builder.GraphBuilder.layer`.
    """
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = _parameter(weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    return builder.layer(name, layer, x, same=same)


@converts("Gemm")
def _gemm(builder: GraphBuilder, operation: Operation) -> Value:
    alpha, beta = float(operation.get("alpha", 1.0)), float(operation.get("beta", 1.0))
    x = _data(builder, operation)
    if operation.get("transA", 0):
        x = builder.call(torch.transpose, x, 0, 1)
    weight, bias = operation.input(1), operation.input(2)
    outputs = None
    if isinstance(weight, np.ndarray):
        matrix = (weight if operation.get("transB", 0) else weight.T) * np.float32(alpha)
        outputs = matrix.shape[0]
        if bias is None or (isinstance(bias, np.ndarray) and bias.size in (1, outputs) and bias.ndim <= 2):
            row = None if bias is None else np.broadcast_to(bias.reshape(-1) * np.float32(beta), (outputs,))
            same = ("Gemm", *operation.input_names[1:], alpha, beta, operation.get("transB", 0))
            return linear(builder, named_after(operation), x, matrix, row, same)
    if alpha != 1 or beta != 1 or weight is None:
        raise UnsupportedOperator("it scales products of computed matrices")
    other = builder.tensor(weight)
    product = builder.call(
        torch.matmul, x, builder.call(torch.transpose, other, 0, 1) if operation.get("transB", 0) else other
    )
    return product if bias is None else builder.call(torch.add, product, builder.operand(bias))


@converts("BatchNormalization")
def _batch_norm(builder: GraphBuilder, operation: Operation) -> Value:
    if operation.get("training_mode", 0):
        raise UnsupportedOperator("it is in training mode")
    x = _data(builder, operation)
    rank = len(builder.shape(x))
    if rank not in _BATCH_NORMS:
        raise UnsupportedOperator(f"its input has {rank} axes")
    parts = [operation.constant(index, "statistics") for index in range(1, 5)]
    scale, shift, mean, variance = (np.asarray(part, dtype=np.float32) for part in parts)
    layer = _BATCH_NORMS[rank](len(scale), eps=float(operation.get("epsilon", 1e-5)))
    layer.weight, layer.bias = _parameter(scale), _parameter(shift)
    layer.running_mean, layer.running_var = torch.from_numpy(mean.copy()), torch.from_numpy(variance.copy())
    return builder.layer(
        named_after(operation), layer, x, same=("BatchNormalization", *operation.input_names[1:])
    )


@converts("InstanceNormalization")
def _instance_norm(builder: GraphBuilder, operation: Operation) -> Value:
    x = _data(builder, operation)
    scale, shift = operation.constant(1, "scale"), operation.constant(2, "shift")
    assert scale is not None
    assert shift is not None
    layer = _INSTANCE_NORMS[len(builder.shape(x))](
        len(scale), eps=float(operation.get("epsilon", 1e-5)), affine=True
    )
    layer.weight, layer.bias = _parameter(scale), _parameter(shift)
    return builder.layer(named_after(operation), layer, x)


@converts("LayerNormalization")
def _layer_norm(builder: GraphBuilder, operation: Operation) -> Value:
    x = _data(builder, operation)
    if operation.outputs > 1:
        raise UnsupportedOperator("its mean is used too")
    scale, shift = operation.constant(1, "scale"), operation.constant(2, "shift")
    shape = builder.shape(x)
    sides = shape[int(operation.get("axis", -1)) % len(shape) :]
    if scale is None or scale.size != int(np.prod(sides)):
        raise UnsupportedOperator("its scale has another shape than what it normalises")
    layer = nn.LayerNorm(sides, eps=float(operation.get("epsilon", 1e-5)))
    layer.weight = _parameter(scale.reshape(sides))
    layer.bias = _parameter(np.zeros(sides) if shift is None else shift.reshape(sides))
    return builder.layer(named_after(operation), layer, x)


@converts("GroupNormalization")
def _group_norm(builder: GraphBuilder, operation: Operation) -> Value:
    x = _data(builder, operation)
    scale, shift = operation.constant(1, "scale"), operation.constant(2, "shift")
    groups, channels = int(operation.get("num_groups")), builder.shape(x)[1]
    assert scale is not None
    assert shift is not None
    if len(scale) != channels:  # operator set 18 has one for each group
        scale, shift = (np.repeat(each, channels // groups) for each in (scale, shift))
    layer = nn.GroupNorm(groups, channels, eps=float(operation.get("epsilon", 1e-5)))
    layer.weight, layer.bias = _parameter(scale), _parameter(shift)
    return builder.layer(named_after(operation), layer, x)


@converts("LRN")
def _lrn(builder: GraphBuilder, operation: Operation) -> Value:
    layer = nn.LocalResponseNorm(
        int(operation.get("size")), float(operation.get("alpha", 1e-4)), float(operation.get("beta", 0.75)),
        float(operation.get("bias", 1.0)),
    )  # fmt: skip
    return builder.layer(operation.name, layer, _data(builder, operation))


@converts("PRelu")
def _prelu(builder: GraphBuilder, operation: Operation) -> Value:
    x, slope = _data(builder, operation), operation.constant(1, "slope")
    assert slope is not None
    channels = builder.shape(x)[1]
    if slope.size == 1 or slope.shape == (channels, *[1] * (len(builder.shape(x)) - 2)):
        layer = nn.PReLU(slope.size)
        layer.weight = _parameter(slope.reshape(-1))
        return builder.layer(named_after(operation), layer, x)
    below = builder.call(torch.clamp, x, max=0.0)
    scaled = builder.call(torch.mul, below, builder.tensor(slope, f"{operation.name}.slope"))
    return builder.call(torch.add, builder.call(torch.clamp, x, min=0.0), scaled)


@converts("MaxPool")
def _max_pool(builder: GraphBuilder, operation: Operation) -> Value:
    if operation.outputs > 1:
        raise UnsupportedOperator("its indices are used")
    x = _data(builder, operation)
    kernel = integers(operation.get("kernel_shape"))
    strides, dilations, begin, end = _geometry(builder, operation, x, kernel)
    if begin != end or any(2 * pad > size for pad, size in zip(begin, kernel, strict=True)):
        x, begin = _padded(builder, x, begin, end, -float("inf")), [0] * len(kernel)
    whole = bool(operation.get("ceil_mode", 0))
    layer = _MAX_POOLS[len(kernel)](kernel, strides, begin, dilations, ceil_mode=whole)
    return builder.layer(operation.name, layer, x)


@converts("AveragePool")
def _average_pool(builder: GraphBuilder, operation: Operation) -> Value:
    x = _data(builder, operation)
    kernel = integers(operation.get("kernel_shape"))
    strides, dilations, begin, end = _geometry(builder, operation, x, kernel)
    if any(each != 1 for each in dilations):
        raise UnsupportedOperator("it is dilated")
    counts = bool(operation.get("count_include_pad", 0))
    if begin != end:
        if not counts:
            raise UnsupportedOperator(
                "it pads the two ends of a side differently, without counting the padding"
            )
        x, begin = _padded(builder, x, begin, end), [0] * len(kernel)
    layer = _MEAN_POOLS[len(kernel)](
        kernel, strides, begin, ceil_mode=bool(operation.get("ceil_mode", 0)), count_include_pad=counts
    )
    return builder.layer(operation.name, layer, x)


@converts("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(builder: GraphBuilder, operation: Operation) -> Value:
    x = _data(builder, operation)
    pools = _GLOBAL_MEANS if operation.kind == "GlobalAveragePool" else _GLOBAL_MAXIMA
    return builder.layer(operation.name, pools[len(builder.shape(x)) - 2](1), x)
