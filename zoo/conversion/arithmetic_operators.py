"""Operators that compute element by element, and reductions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from zoo.conversion.builder import Numbers, UnsupportedOperator, as_numbers, integers
from zoo.conversion.converter_table import converts
from zoo.conversion.layer_operators import linear

if TYPE_CHECKING:
    from zoo.conversion.builder import GraphBuilder, Operation, Value

_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Asin": torch.asin, "Atan": torch.atan, "Ceil": torch.ceil,
    "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
    "Log": torch.log, "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Round": torch.round, "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Sqrt": torch.sqrt,
    "Tan": torch.tan, "Softsign": functional.softsign, "IsNaN": torch.isnan,
}  # fmt: skip
#: Of tensors, and of single numbers.
_BINARY: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "Add": (operator.add, operator.add), "Sub": (operator.sub, operator.sub), "Mul": (operator.mul, operator.mul),
    "Pow": (torch.pow, operator.pow), "Equal": (torch.eq, operator.eq), "Less": (torch.lt, operator.lt),
    "Greater": (torch.gt, operator.gt), "LessOrEqual": (torch.le, operator.le),
    "GreaterOrEqual": (torch.ge, operator.ge), "And": (torch.logical_and, operator.and_),
    "Or": (torch.logical_or, operator.or_), "Xor": (torch.logical_xor, operator.xor),
}  # fmt: skip
_NUMBER_UNARY: dict[str, Callable[..., Any]] = {
    "Neg": operator.neg, "Floor": math.floor, "Ceil": math.ceil, "Abs": abs, "Sqrt": math.sqrt,
}  # fmt: skip
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
}  # fmt: skip
_SLICES: dict[str, Callable[..., Any]] = {"Softmax": functional.softmax, "LogSoftmax": functional.log_softmax}


def _tensors(builder: GraphBuilder, operation: Operation) -> list[Any]:
    """Return the inputs as tensors or Python numbers, at least the first as a tensor of the network."""
    return [
        builder.operand(value, f"{operation.name}.{index}")
        for index, value in enumerate(operation.inputs)
        if value is not None
    ]


def _numbers(operation: Operation) -> list[Numbers] | None:
    """Return all inputs as numbers if one of them is computed from sizes, else None."""
    found = [as_numbers(value) for value in operation.inputs]
    if not any(isinstance(value, Numbers) for value in operation.inputs):
        return None
    return [each for each in found if each is not None] if all(each is not None for each in found) else None


def _elementwise(builder: GraphBuilder, function: Callable[..., Any], *values: Numbers) -> Numbers:
    """Apply a function item by item, as numpy broadcasts."""
    whole = np.broadcast_arrays(*(value.values for value in values))
    rows = zip(*(each.reshape(-1) for each in whole), strict=True)
    return Numbers.of([builder.number(function, *row) for row in rows], whole[0].shape)


@converts(*_UNARY)
def _unary(builder: GraphBuilder, operation: Operation) -> Value:
    numbers = _numbers(operation)
    if numbers is not None and operation.kind in _NUMBER_UNARY:
        return _elementwise(builder, _NUMBER_UNARY[operation.kind], *numbers)
    return builder.call(_UNARY[operation.kind], *_tensors(builder, operation))


def _divide_integers(first: int, second: int) -> int:
    return int(first / second) if (first < 0) != (second < 0) else first // second


@converts("Add", "Sub", "Mul", "Div", "Pow", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or",
          "Xor", "Mod")  # fmt: skip
def _binary(builder: GraphBuilder, operation: Operation) -> Value:
    numbers = _numbers(operation)
    if numbers is not None:
        floats = any(isinstance(builder.example(item), float) for each in numbers for item in each.items)
        if operation.kind == "Div":
            return _elementwise(builder, operator.truediv if floats else operator.floordiv, *numbers)
        if operation.kind == "Mod":
            return _elementwise(builder, operator.mod, *numbers)
        return _elementwise(builder, _BINARY[operation.kind][1], *numbers)
    first, second = _tensors(builder, operation)
    if operation.kind == "Mod":
        return builder.call(torch.fmod if operation.get("fmod", 0) else torch.remainder, first, second)
    if operation.kind == "Div":
        kinds = [builder.example(each) for each in (first, second)]
        whole = all(
            isinstance(each, int) or (hasattr(each, "dtype") and not each.dtype.is_floating_point)
            for each in kinds
        )
        if whole:
            return builder.call(torch.div, first, second, rounding_mode="trunc")
        return builder.call(operator.truediv, first, second)
    function = _BINARY[operation.kind][0]
    tensor = [isinstance(builder.example(each), torch.Tensor) for each in (first, second)]
    if not tensor[0] and function not in (operator.add, operator.sub, operator.mul, torch.pow):
        first = builder.tensor(np.asarray(first), f"{operation.name}.0")
    return builder.call(function, first, second)


@converts("Max", "Min", "Sum", "Mean")
def _several(builder: GraphBuilder, operation: Operation) -> Value:
    numbers = _numbers(operation)
    if numbers is not None and operation.kind in ("Max", "Min"):
        return _elementwise(builder, max if operation.kind == "Max" else min, *numbers)
    function = {"Max": torch.maximum, "Min": torch.minimum}.get(operation.kind, operator.add)
    values = [
        builder.tensor(v, f"{operation.name}.{i}") for i, v in enumerate(operation.inputs) if v is not None
    ]
    result = values[0]
    for value in values[1:]:
        result = builder.call(function, result, value)
    return builder.call(operator.truediv, result, len(values)) if operation.kind == "Mean" else result


@converts("Where")
def _where(builder: GraphBuilder, operation: Operation) -> Value:
    numbers = _numbers(operation)
    if numbers is not None and numbers[0].known:
        whole = np.broadcast_arrays(*(each.values for each in numbers))
        rows = zip(*(each.reshape(-1) for each in whole), strict=True)
        return Numbers.of([first if choose else second for choose, first, second in rows], whole[0].shape)
    condition = builder.tensor(operation.inputs[0])  # type: ignore[arg-type]
    first, second = (builder.operand(each) for each in operation.inputs[1:])  # type: ignore[arg-type]
    return builder.call(torch.where, condition, first, second)


def _activation(operation: Operation) -> nn.Module | None:
    get = operation.get
    if operation.kind == "HardSigmoid":
        fits = math.isclose(get("alpha", 0.2), 1 / 6, rel_tol=1e-5) and get("beta", 0.5) == 0.5
        return nn.Hardsigmoid() if fits else None
    made: dict[str, Callable[[], nn.Module]] = {
        "Relu": nn.ReLU,
        "LeakyRelu": lambda: nn.LeakyReLU(float(get("alpha", 0.01))),
        "Sigmoid": nn.Sigmoid,
        "Tanh": nn.Tanh,
        "Elu": lambda: nn.ELU(float(get("alpha", 1.0))),
        "Celu": lambda: nn.CELU(float(get("alpha", 1.0))),
        "Softplus": nn.Softplus,
        "HardSwish": nn.Hardswish,
        "Mish": nn.Mish,
        "Gelu": lambda: nn.GELU(approximate=get("approximate", "none")),
    }
    return made[operation.kind]()


@converts(
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "Elu",
    "Celu",
    "Softplus",
    "HardSwish",
    "Mish",
    "Gelu",
    "HardSigmoid",
)
def _activate(builder: GraphBuilder, operation: Operation) -> Value:
    x = builder.tensor(operation.inputs[0])  # type: ignore[arg-type]
    layer = _activation(operation)
    if layer is not None:
        return builder.layer(operation.name, layer, x)
    line = builder.call(
        operator.add,
        builder.call(operator.mul, x, float(operation.get("alpha", 0.2))),
        float(operation.get("beta", 0.5)),
    )
    return builder.call(torch.clamp, line, 0.0, 1.0)


@converts("Selu", "ThresholdedRelu", "Swish")
def _rare_activation(builder: GraphBuilder, operation: Operation) -> Value:
    x = builder.tensor(operation.inputs[0])  # type: ignore[arg-type]
    if operation.kind == "Swish":
        alpha = float(operation.get("alpha", 1.0))
        if alpha == 1:
            return builder.layer(operation.name, nn.SiLU(), x)
        return builder.call(
            operator.mul, x, builder.call(torch.sigmoid, builder.call(operator.mul, x, alpha))
        )
    if operation.kind == "Selu":
        alpha, gamma = operation.get("alpha", 1.6732632), operation.get("gamma", 1.0507009)
        return builder.call(operator.mul, builder.call(functional.elu, x, float(alpha)), float(gamma))
    return builder.call(functional.threshold, x, float(operation.get("alpha", 1.0)), 0.0)


@converts("Clip")
def _clip(builder: GraphBuilder, operation: Operation) -> Value:
    x = builder.tensor(operation.inputs[0])  # type: ignore[arg-type]
    low, high = (operation.constant(index, "bounds") for index in (1, 2))
    least = -math.inf if low is None else float(low)
    most = math.inf if high is None else float(high)
    if least == 0 and most == 6:
        return builder.layer(operation.name, nn.ReLU6(), x)
    if least == 0 and most == math.inf:
        return builder.layer(operation.name, nn.ReLU(), x)
    bounds = {"min": least, "max": most}
    return builder.call(
        torch.clamp, x, **{key: bound for key, bound in bounds.items() if math.isfinite(bound)}
    )


@converts("MatMul")
def _matmul(builder: GraphBuilder, operation: Operation) -> Value:
    first, second = operation.inputs
    if isinstance(first, fx.Node) and isinstance(second, np.ndarray) and second.ndim == 2:
        return linear(builder, operation.name, first, second.T, None, ("MatMul", operation.input_names[1]))
    assert first is not None
    assert second is not None
    return builder.call(torch.matmul, builder.tensor(first), builder.tensor(second))


@converts("Einsum")
def _einsum(builder: GraphBuilder, operation: Operation) -> Value:
    values = [builder.tensor(value) for value in operation.inputs if value is not None]
    return builder.call(torch.einsum, operation.get("equation"), *values)


@converts("Softmax", "LogSoftmax")
def _softmax(builder: GraphBuilder, operation: Operation) -> Value:
    x = builder.tensor(operation.inputs[0])  # type: ignore[arg-type]
    rank = len(builder.shape(x))
    axis = int(operation.get("axis", -1 if operation.opset >= 13 else 1)) % rank
    if operation.opset < 13 and any(side != 1 for side in builder.shape(x)[axis + 1 :]):
        raise UnsupportedOperator("in this operator set it flattens several axes")
    return builder.call(_SLICES[operation.kind], x, dim=axis)


@converts("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1", "ReduceSumSquare")
def _reduce(builder: GraphBuilder, operation: Operation) -> Value:
    x = builder.tensor(operation.inputs[0])  # type: ignore[arg-type]
    axes = operation.get("axes")
    if axes is None:
        axes = operation.constant(1, "axes")
    rank = len(builder.shape(x))
    if axes is None or len(axes) == 0:
        if operation.get("noop_with_empty_axes", 0):
            return x
        axes = range(rank)
    sides = tuple(sorted(axis % rank for axis in integers(axes)))
    keep = bool(operation.get("keepdims", 1))
    if operation.kind in ("ReduceL2", "ReduceSumSquare"):
        total = builder.call(torch.sum, builder.call(torch.square, x), sides, keep)
        return builder.call(torch.sqrt, total) if operation.kind == "ReduceL2" else total
    if operation.kind == "ReduceL1":
        return builder.call(torch.sum, builder.call(torch.abs, x), sides, keep)
    if operation.kind == "ReduceMean" and sides == (2, 3) and rank == 4 and keep:
        return builder.layer(operation.name, nn.AdaptiveAvgPool2d(1), x)
    return builder.call(_REDUCTIONS[operation.kind], x, sides, keep)


@converts("LpNormalization")
def _normalize(builder: GraphBuilder, operation: Operation) -> Value:
    x = builder.tensor(operation.inputs[0])  # type: ignore[arg-type]
    return builder.call(
        functional.normalize, x, p=float(operation.get("p", 2)), dim=int(operation.get("axis", -1))
    )


@converts("ArgMax")
def _arg_max(builder: GraphBuilder, operation: Operation) -> Value:
    x = builder.tensor(operation.inputs[0])  # type: ignore[arg-type]
    return builder.call(torch.argmax, x, int(operation.get("axis", 0)), bool(operation.get("keepdims", 1)))


@converts("TopK")
def _top_k(builder: GraphBuilder, operation: Operation) -> tuple[Value, ...]:
    x, count = builder.tensor(operation.inputs[0]), operation.constant(1, "number")  # type: ignore[arg-type]
    if count is None:
        raise UnsupportedOperator("its number is not stated")
    found = builder.call(
        torch.topk,
        x,
        int(count.reshape(-1)[0]),
        dim=int(operation.get("axis", -1)),
        largest=bool(operation.get("largest", 1)),
        sorted=bool(operation.get("sorted", 1)),
    )
    return tuple(builder.call(operator.getitem, found, index) for index in range(2))
