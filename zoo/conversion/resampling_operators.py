"""Operators that pad and resize images, and that move pixels between channels and space."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx, nn
from torch.nn import functional

from zoo.conversion.builder import UnsupportedOperator, as_numbers, integers
from zoo.conversion.converter_table import converts
from zoo.conversion.shape_operators import data_of

if TYPE_CHECKING:
    from zoo.conversion.builder import GraphBuilder, Operation, Value


@converts("Pad")
def _pad(builder: GraphBuilder, operation: Operation) -> Value:
    x = data_of(builder, operation)
    rank = len(builder.shape(x))
    pads, value = as_numbers(operation.input(1)), operation.constant(2, "value")
    axes = operation.constant(3, "axes")
    if pads is None:
        raise UnsupportedOperator("its widths are computed from values")
    where = list(range(rank)) if axes is None else [axis % rank for axis in integers(axes)]
    begin: list[Any] = [0] * rank
    end: list[Any] = [0] * rank
    for place, axis in enumerate(where):
        begin[axis], end[axis] = pads.items[place], pads.items[place + len(where)]
    first = next((axis for axis in range(rank) if begin[axis] != 0 or end[axis] != 0), rank)
    if first == rank:
        return x
    flat = [side for axis in reversed(range(max(first, 0), rank)) for side in (begin[axis], end[axis])]
    mode = operation.get("mode", "constant")
    if mode == "constant":
        number = 0.0 if value is None else float(value)
        return (
            builder.call(functional.pad, x, flat)
            if number == 0
            else builder.call(functional.pad, x, flat, value=number)
        )
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if first < 2:
        raise UnsupportedOperator(f"it pads channels by {mode}")
    flat = [side for axis in reversed(range(2, rank)) for side in (begin[axis], end[axis])]
    return builder.call(functional.pad, x, flat, mode=names[mode])


@converts("DepthToSpace", "SpaceToDepth")
def _depth(builder: GraphBuilder, operation: Operation) -> Value:
    x, block = data_of(builder, operation), int(operation.get("blocksize"))
    if operation.kind == "DepthToSpace" and operation.get("mode", "DCR") == "CRD":
        return builder.layer(operation.name, nn.PixelShuffle(block), x)
    channels = builder.shape(x)[1]
    # DCR stores the places of a block before the channels, torch after them.
    if operation.kind == "DepthToSpace":
        count = channels // block**2
        order = np.arange(channels).reshape(block**2, count).T.reshape(-1)
        index = builder.tensor(order, f"{operation.name}.order")
        return builder.layer(
            operation.name, nn.PixelShuffle(block), builder.call(operator.getitem, x, (slice(None), index))
        )
    order = np.arange(channels * block**2).reshape(channels, block**2).T.reshape(-1)
    index = builder.tensor(order, f"{operation.name}.order")
    moved = builder.layer(operation.name, nn.PixelUnshuffle(block), x)
    return builder.call(operator.getitem, moved, (slice(None), index))


def _resized(builder: GraphBuilder, operation: Operation, x: fx.Node) -> tuple[list[Any], list[float] | None]:
    """Return the new sides and, if they are stated, the factors of the spatial axes."""
    sizes = as_numbers(operation.input(3))
    if sizes is not None and sizes.items:
        return list(sizes.items[-(len(builder.shape(x)) - 2) :]), None
    scales = as_numbers(operation.input(2))
    if scales is None or not scales.items:
        raise UnsupportedOperator("its sizes are computed from values")
    factors = [builder.example(item) for item in scales.items]
    if any(factor != 1 for factor in factors[:2]):
        raise UnsupportedOperator("it resizes channels")
    return [], [float(factor) for factor in factors[2:]]


@converts("Resize")
def _resize(builder: GraphBuilder, operation: Operation) -> Value:
    x = data_of(builder, operation)
    sides = builder.shape(x)[2:]
    sizes, factors = _resized(builder, operation, x)
    mode, place = (
        operation.get("mode", "nearest"),
        operation.get("coordinate_transformation_mode", "half_pixel"),
    )
    if operation.get("antialias", 0) or operation.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedOperator("it smooths, or keeps the aspect ratio")
    given: dict[str, Any] = {"size": tuple(sizes)} if factors is None else {"scale_factor": tuple(factors)}
    real = factors or [builder.example(size) / side for size, side in zip(sizes, sides, strict=True)]
    if mode == "nearest":
        enlarges = all(float(factor).is_integer() for factor in real)
        if not enlarges and (place, operation.get("nearest_mode", "round_prefer_floor")) != (
            "asymmetric",
            "floor",
        ):
            raise UnsupportedOperator(
                f"it takes the nearest pixel by {place}, which torch has for whole factors only"
            )
        return builder.call(functional.interpolate, x, mode="nearest", **given)
    names = {
        ("linear", 1): "linear",
        ("linear", 2): "bilinear",
        ("linear", 3): "trilinear",
        ("cubic", 2): "bicubic",
    }
    if (mode, len(sides)) not in names or place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise UnsupportedOperator(f"it interpolates by {mode} and {place}")
    return builder.call(
        functional.interpolate,
        x,
        mode=names[mode, len(sides)],
        align_corners=place == "align_corners",
        **given,
    )


@converts("GridSample")
def _grid_sample(builder: GraphBuilder, operation: Operation) -> Value:
    x, grid = (builder.tensor(each) for each in operation.inputs[:2])  # type: ignore[arg-type]
    modes = {"linear": "bilinear", "cubic": "bicubic"}
    mode = operation.get("mode", "bilinear")
    return builder.call(
        functional.grid_sample,
        x,
        grid,
        mode=modes.get(mode, mode),
        padding_mode=operation.get("padding_mode", "zeros"),
        align_corners=bool(operation.get("align_corners", 0)),
    )
