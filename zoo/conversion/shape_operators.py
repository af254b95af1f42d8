"""Operators that reshape, join and cut tensors, and those that compute with sizes."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from zoo.conversion.builder import Numbers, UnsupportedOperator, as_numbers, integers
from zoo.conversion.converter_table import converts

if TYPE_CHECKING:
    from zoo.conversion.builder import GraphBuilder, Operation, Value

#: numpy types by their number in ONNX; of those that networks compute in.
_TYPES: dict[int, Any] = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64,
}  # fmt: skip
_FLOATS = (1, 10, 11, 16)
_item = operator.getitem


def data_of(builder: GraphBuilder, operation: Operation) -> fx.Node:
    """Return the first input as a tensor."""
    value = operation.input(0)
    assert value is not None
    return builder.tensor(value, f"{operation.name}.0")


def _axes(operation: Operation, rank: int) -> list[int]:
    stated = operation.get("axes")
    if stated is None:
        stated = operation.constant(1, "axes")
    return [] if stated is None else sorted(axis % rank for axis in integers(np.atleast_1d(stated)))


@converts("Shape")
def _shape(builder: GraphBuilder, operation: Operation) -> Value:
    sizes = builder.sizes(data_of(builder, operation))
    return Numbers.of(sizes[operation.get("start", 0) : operation.get("end", None)])


@converts("Reshape")
def _reshape(builder: GraphBuilder, operation: Operation) -> Value:
    value, target = operation.input(0), as_numbers(operation.input(1))
    if target is None:
        raise UnsupportedOperator("its shape is computed from values")
    if isinstance(value, Numbers):
        return Numbers(value.values.reshape(integers(builder.example(tuple(target.items)))))
    x = data_of(builder, operation)
    shape, sizes = builder.shape(x), target.items
    if operation.get("allowzero", 0) == 0:
        sizes = [builder.sizes(x)[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    copied = [
        axis for axis, size in enumerate(target.items) if size == 0 and operation.get("allowzero", 0) == 0
    ]
    if target.known and any(
        axis > 0 and shape[axis] == 1 for axis in copied
    ):  # where the batch may be by now
        kept = [builder.call("size", x, axis) if axis in copied else size for axis, size in enumerate(sizes)]
        return builder.call(torch.reshape, x, tuple(kept))
    if target.known or builder.fixed:
        return _reshape_to_constant(builder, x, shape, [builder.example(size) for size in sizes])
    if len(sizes) == 2 and builder.example(sizes[0]) == shape[0] and len(shape) > 2:
        return builder.call(torch.flatten, x, 1)
    return builder.call(torch.reshape, x, tuple(sizes))


def _reshape_to_constant(
    builder: GraphBuilder, x: fx.Node, shape: tuple[int, ...], sizes: list[int]
) -> fx.Node:
    """Reshape to sides that are stated; the first one grows with the batch, which the file may hold at one."""
    rest = math.prod(size for size in sizes if size != -1)
    stated = sizes
    sizes = [math.prod(shape) // rest if size == -1 else size for size in sizes]
    if len(sizes) == 2 and len(shape) > 2 and sizes[0] == shape[0]:
        return builder.call(torch.flatten, x, 1)
    if sizes and shape and sizes[0] == shape[0]:
        same = len(sizes) == len(shape) and tuple(sizes) == shape
        # The side that follows from the others does so for inputs of other sizes, too.
        others = sizes if builder.fixed or stated[0] == -1 else stated
        return x if same else builder.call(torch.reshape, x, (builder.call("size", x, 0), *others[1:]))
    return builder.call(torch.reshape, x, (-1, *sizes[1:]) if sizes else ())


@converts("Flatten")
def _flatten(builder: GraphBuilder, operation: Operation) -> Value:
    x = data_of(builder, operation)
    rank = len(builder.shape(x))
    axis = int(operation.get("axis", 1)) % rank if rank else 0
    if axis == 1:
        return builder.call(torch.flatten, x, 1) if rank != 2 else x
    sizes = builder.shape(x)
    return builder.call(torch.reshape, x, (-1, math.prod(sizes[axis:])))


@converts("Squeeze")
def _squeeze(builder: GraphBuilder, operation: Operation) -> Value:
    value = operation.input(0)
    if isinstance(value, Numbers):
        return Numbers(value.values.squeeze(tuple(_axes(operation, value.values.ndim)) or None))
    x = data_of(builder, operation)
    shape = builder.shape(x)
    axes = _axes(operation, len(shape)) or [axis for axis, side in enumerate(shape) if side == 1 and axis]
    for axis in reversed(axes):
        x = builder.call(torch.squeeze, x, axis)
    return x


@converts("Unsqueeze")
def _unsqueeze(builder: GraphBuilder, operation: Operation) -> Value:
    value = operation.input(0)
    if isinstance(value, Numbers):
        stated = operation.get("axes", operation.constant(1, "axes"))
        axes = _axes(operation, value.values.ndim + len(np.atleast_1d(stated)))
        return Numbers(np.expand_dims(value.values, tuple(axes)))
    x = data_of(builder, operation)
    stated = operation.get("axes", operation.constant(1, "axes"))
    for axis in _axes(operation, len(builder.shape(x)) + len(np.atleast_1d(stated))):
        x = builder.call(torch.unsqueeze, x, axis)
    return x


@converts("Transpose")
def _transpose(builder: GraphBuilder, operation: Operation) -> Value:
    value = operation.input(0)
    if isinstance(value, Numbers):
        return Numbers(value.values.transpose(operation.get("perm")))
    x = data_of(builder, operation)
    order = operation.get("perm") or list(reversed(range(len(builder.shape(x)))))
    return builder.call(torch.permute, x, tuple(integers(order)))


@converts("Concat")
def _concat(builder: GraphBuilder, operation: Operation) -> Value:
    found = [as_numbers(value) for value in operation.inputs]
    if any(isinstance(value, Numbers) for value in operation.inputs) and all(
        each is not None for each in found
    ):
        values = [each.values for each in found if each is not None]
        return Numbers(np.concatenate(values, int(operation.get("axis", 0))))
    parts = [builder.tensor(value) for value in operation.inputs if value is not None]
    rank = len(builder.shape(parts[0]))
    axis = int(operation.get("axis")) % rank
    moving = next((part for part in parts if part.op != "get_attr"), None)
    if axis and moving is not None:
        # A constant of a file for one image (a class token) is the same for each image of a batch.
        parts = [_for_each_image(builder, part, moving) for part in parts]
    return builder.call(torch.cat, parts, axis)


def _for_each_image(builder: GraphBuilder, part: fx.Node, moving: fx.Node) -> fx.Node:
    shape = builder.shape(part)
    if part.op != "get_attr" or shape[0] != 1:
        return part
    return builder.call("expand", part, builder.call("size", moving, 0), *[-1] * (len(shape) - 1))


@converts("Split")
def _split(builder: GraphBuilder, operation: Operation) -> Value | tuple[Value, ...]:
    x = data_of(builder, operation)
    shape = builder.shape(x)
    axis = int(operation.get("axis", 0)) % len(shape)
    sizes = operation.get("split")
    if sizes is None:
        sizes = operation.constant(1, "sizes")
    if sizes is None:
        count = int(operation.get("num_outputs", operation.outputs))
        if shape[axis] % count == 0:
            pieces = builder.call(torch.chunk, x, count, axis)
            return tuple(builder.call(_item, pieces, index) for index in range(count))
        each = -(-shape[axis] // count)
        sizes = [each] * (count - 1) + [shape[axis] - each * (count - 1)]
    sizes = integers(sizes)
    if len(set(sizes)) == 1:
        pieces = builder.call(torch.chunk, x, len(sizes), axis)
    else:
        pieces = builder.call(torch.split, x, sizes, axis)
    return tuple(builder.call(_item, pieces, index) for index in range(len(sizes)))


@converts("Slice")
def _slice(builder: GraphBuilder, operation: Operation) -> Value:
    value = operation.input(0)
    starts, ends = (as_numbers(operation.input(index)) for index in (1, 2))
    axes, steps = operation.constant(3, "axes"), operation.constant(4, "steps")
    if starts is None or ends is None:
        raise UnsupportedOperator("where it cuts is computed from values")
    stride = [1] * len(starts.items) if steps is None else integers(steps)
    if isinstance(value, Numbers):
        first, last = (integers(builder.example(tuple(each.items))) for each in (starts, ends))
        sides = [slice(None)] * value.values.ndim
        for place, axis in enumerate(range(len(first)) if axes is None else integers(axes)):
            beyond = stride[place] < 0 and last[place] < -value.values.shape[axis]
            sides[axis] = slice(first[place], None if beyond else last[place], stride[place])
        return Numbers(value.values[tuple(sides)])
    x = data_of(builder, operation)
    rank = len(builder.shape(x))
    where = list(range(len(starts.items))) if axes is None else [axis % rank for axis in integers(axes)]
    cuts: list[Any] = [slice(None)] * rank
    for axis, start, end, step in zip(where, starts.items, ends.items, stride, strict=True):
        if step < 0:
            if step != -1 or builder.example(start) not in (-1, builder.shape(x)[axis] - 1):
                raise UnsupportedOperator("it steps backwards")
            x = builder.call(torch.flip, x, (axis,))
            continue
        start = None if isinstance(start, int) and start == 0 else start
        end = None if isinstance(end, int) and end >= 2**31 - 1 else end
        cuts[axis] = slice(start, end, None if step == 1 else step)
    return builder.call(_item, x, tuple(cuts)) if any(cut != slice(None) for cut in cuts) else x


@converts("Gather")
def _gather(builder: GraphBuilder, operation: Operation) -> Value:
    value = operation.input(0)
    if isinstance(value, Numbers):
        index = operation.constant(1, "index")
        assert index is not None
        taken = np.take(value.values, index.astype(np.int64), int(operation.get("axis", 0)))
        return Numbers.of([taken], ()) if index.ndim == 0 and value.values.ndim == 1 else Numbers(taken)
    x = data_of(builder, operation)
    rank = len(builder.shape(x))
    axis = int(operation.get("axis", 0)) % rank
    if isinstance(operation.input(1), np.ndarray) or as_numbers(operation.input(1)) is not None:
        index = operation.constant(1, "index")
        assert index is not None
        shape = builder.shape(x)
        if index.ndim > 1 and rank == 1 and np.array_equal(index.reshape(-1), np.arange(shape[0])):
            return _reshape_to_constant(
                builder, x, shape, list(index.shape)
            )  # a view, as exporters write strides
        if index.ndim == 0:
            return builder.call(_item, x, (*[slice(None)] * axis, int(index)))
        picked = builder.tensor(index.astype(np.int64), f"{operation.name}.index")
    else:
        picked = builder.tensor(operation.inputs[1])  # type: ignore[arg-type]
    return builder.call(_item, x, (*[slice(None)] * axis, picked))


@converts("Expand", "Tile")
def _expand(builder: GraphBuilder, operation: Operation) -> Value:
    value, sizes = operation.input(0), as_numbers(operation.input(1))
    if sizes is None:
        raise UnsupportedOperator("its shape is computed from values")
    if operation.kind == "Expand" and isinstance(value, Numbers):
        return Numbers(np.broadcast_to(value.values, integers(builder.example(tuple(sizes.items)))))
    x = data_of(builder, operation)
    if operation.kind == "Tile":
        return builder.call("repeat", x, *sizes.items)
    shape = builder.shape(x)
    own = [1] * (len(sizes.items) - len(shape)) + list(shape)
    wanted = [
        -1 if size == 1 and side != 1 else size
        for size, side in zip(sizes.items, own[-len(sizes.items) :], strict=True)
    ]
    return builder.call("expand", x, *wanted)


@converts("Cast")
def _cast(builder: GraphBuilder, operation: Operation) -> Value:
    value, to = operation.input(0), int(operation.get("to"))
    if isinstance(value, Numbers):
        function = float if to in _FLOATS else int
        return Numbers.of([builder.number(function, item) for item in value.items], value.values.shape)
    x = data_of(builder, operation)
    if to not in _TYPES:
        raise UnsupportedOperator(f"it computes in the type {to}")
    return x if builder.example(x).dtype == _TYPES[to] else builder.call("to", x, _TYPES[to])


@converts("ConstantOfShape")
def _constant_of_shape(builder: GraphBuilder, operation: Operation) -> Value:
    sizes = as_numbers(operation.input(0))
    fill = operation.get("value")
    fill = np.zeros(1, np.float32) if fill is None else np.asarray(fill)
    if sizes is None:
        raise UnsupportedOperator("its shape is computed from values")
    if sizes.known:
        return np.full([int(size) for size in sizes.items], fill.reshape(-1)[0], fill.dtype)
    number = fill.reshape(-1)[0].item()
    return builder.call(torch.full, tuple(sizes.items), number, dtype=torch.from_numpy(fill).dtype)


@converts("Range")
def _range(builder: GraphBuilder, operation: Operation) -> Value:
    found = [as_numbers(value) for value in operation.inputs]
    if any(each is None for each in found):
        raise UnsupportedOperator("its bounds are computed from values")
    return builder.call(torch.arange, *(each.items[0] for each in found if each is not None))


@converts("Identity", "Dropout")
def _same(builder: GraphBuilder, operation: Operation) -> Value:
    value = operation.input(0)
    if operation.outputs > 1 or value is None:
        raise UnsupportedOperator("its mask is used")
    return value
