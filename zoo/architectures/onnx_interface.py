"""The inputs and outputs of an ONNX file from any source, in the form of zoo's own.

Files of zoo take float32 or whole numbers with the batch first, images as (N, C, H, W) in [0, 1], and give float32 of
two axes or more under names that artifacts can hold. What another tool wrote otherwise is adapted by nodes at the ends
of the graph: types are cast, a lone image of (N, H, W, C) is transposed and one of bytes multiplied by 255, numbers
without a batch dimension get one, a batch of a stated size becomes one of any, and names are made fit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.architectures.specs import PART_NAME

if TYPE_CHECKING:
    from zoo.onnx.graph import Graph

_FLOAT, _BYTE, _INT32, _INT64 = 1, 2, 6, 7
#: Types that a float32 or an int64 can be cast to.
_FLOATS, _INTEGERS = (1, 9, 10, 11, 16), (2, 3, 4, 5, 6, 7, 12, 13)
_OUTPUT_NAME = re.compile(r"[a-z0-9_]{1,100}")
_UNFIT = re.compile(r"[^A-Za-z0-9_]+")
_IMAGE_AXES = 4
_LONGEST_NAME = 100
#: Channels of images, and of packed RAW files.
_COLOURS = (1, 3)
_PLANES = (1, 3, 4, 9)


def needs_adapting(graph: Graph) -> bool:
    """Return whether :func:`adapt_interface` changes anything about a file.

    Args:
        graph: As it is read without the package `onnx`.
    """
    constants = {tensor.name for tensor in graph.initializers}
    inputs = [value for value in graph.inputs if value.name not in constants]
    alone = len(inputs) == 1
    for value in inputs:
        dims = None if value.dims is None else [side if side and side > 0 else None for side in value.dims]
        if value.kind not in (_FLOAT, _INT32, _INT64) or dims is None or not dims:
            return True
        if _channels_last(dims) and alone:
            return True
        if not (alone and is_image(dims)) and not _fit_input(value.name):
            return True
    if _batch_axes([value.dims or [] for value in inputs]) or _stated_batch([value.dims for value in inputs]):
        return True
    return any(
        value.kind != _FLOAT or (value.dims is not None and len(value.dims) < 2) for value in graph.results
    ) or any(not _fit_output(value.name) for value in graph.results[1:])


def adapt_interface(onnx: Any, model: Any) -> None:
    """Give a model inputs and outputs as zoo's files have them.

    Args:
        onnx: The package.
        model: A ModelProto, which is changed. What cannot be adapted, such as sequences and text, stays as it is.
    """
    _Adapter(onnx, model.graph).adapt()


def is_image(dims: Sequence[int | None] | None) -> bool:
    """Return whether the lone input of a file may be an image, (N, C, H, W), or a packed RAW file.

    Args:
        dims: Its sides, None or less than 1 where they are open.
    """
    if dims is None or len(dims) != _IMAGE_AXES:
        return False
    channels = dims[1]
    return channels is None or channels < 1 or channels in _PLANES


def _channels_last(dims: Sequence[int | None]) -> bool:
    return len(dims) == _IMAGE_AXES and dims[3] in _COLOURS and dims[1] not in _PLANES


def _fit_input(name: str) -> bool:
    return PART_NAME.fullmatch(name) is not None and name != "output"


def _fit_output(name: str) -> bool:
    return _OUTPUT_NAME.fullmatch(name) is not None and name not in ("input", "output")


def _batch_axes(shapes: Sequence[Sequence[int | None]]) -> dict[int, int]:
    """Which inputs have their batch elsewhere than first, and where: states of recurrent layers, (layers, N, units).

    It is where the only side of 1 or open is, while another input has its batch first.
    """
    free = [[not side or side in (-1, 1) for side in shape] for shape in shapes]
    if not any(each and each[0] for each in free):
        return {}
    return {
        place: each.index(True) for place, each in enumerate(free) if each and not each[0] and sum(each) == 1
    }


@dataclass(frozen=True)
class _Step:
    """A node to insert: its operator, its attributes, and the constant that is its second input."""

    kind: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    operand: Any = None


def _stated_batch(shapes: Sequence[Sequence[int | None] | None]) -> int:
    """The batch of more than one that all inputs state; 0 if they do not."""
    firsts = {shape[0] if shape else None for shape in shapes}
    first = firsts.pop() if len(firsts) == 1 else None
    return first if first is not None and first > 1 else 0


class _Adapter:
    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx, self._graph = onnx, graph
        self._constants = {tensor.name for tensor in graph.initializer}
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)} | self._constants

    def adapt(self) -> None:
        inputs = [each for each in self._graph.input if each.name not in self._constants]
        shapes = [self._dims(each) for each in inputs]
        stated = _stated_batch(shapes)
        if stated:
            self._open_batch([*inputs, *self._graph.output], stated)
            shapes = [self._dims(each) for each in inputs]
        alone = len(inputs) == 1
        moved = _batch_axes([shape or [] for shape in shapes])
        last = alone and shapes[0] is not None and _channels_last(shapes[0])
        before: list[Any] = []
        after: list[Any] = []
        for place, value in enumerate(inputs):
            if value.type.HasField("tensor_type"):
                before += self._adapt_input(value, alone, last, moved.get(place, 0))
        for place, value in enumerate(self._graph.output):
            if value.type.HasField("tensor_type"):
                after += self._adapt_output(value, place == 0, last, set(moved.values()))
        nodes = [*before, *self._graph.node, *after]
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _open_batch(self, values: Sequence[Any], stated: int) -> None:
        """Leave the batch open that a file states; whether it computes others shows when it is run."""
        for value in values:
            sides = value.type.tensor_type.shape.dim
            if sides and sides[0].dim_value == stated:
                sides[0].dim_param = "batch"
        del self._graph.value_info[:]

    def _adapt_input(self, value: Any, alone: bool, last: bool, batch: int) -> list[Any]:
        """Declare an input as it is given from now on; the nodes that make of it what it was."""
        tensor, name = value.type.tensor_type, value.name
        kind, rank = tensor.elem_type, len(tensor.shape.dim)
        image = alone and (last or is_image(self._dims(value)))
        steps: list[_Step] = []
        if not rank and tensor.HasField("shape"):
            steps.append(_Step("Reshape", operand=np.zeros(0, np.int64)))
            tensor.shape.dim.add(dim_value=1)
        if last:
            self._permute(tensor, [0, 3, 1, 2])
            steps.append(_Step("Transpose", {"perm": [0, 2, 3, 1]}))
        elif batch:
            order = _first(batch, rank)
            self._permute(tensor, order)
            steps.append(_Step("Transpose", {"perm": [order.index(axis) for axis in range(rank)]}))
        if kind not in (_FLOAT, _INT32, _INT64) and kind in (*_FLOATS, *_INTEGERS):
            pixels = image and kind == _BYTE
            steps += [_Step("Mul", operand=np.float32(255)), _Step("Round")] if pixels else []
            steps.append(_Step("Cast", {"to": kind}))
            tensor.elem_type = _INT64 if kind in _INTEGERS and not pixels else _FLOAT
        fit = image or _fit_input(name)
        if fit and not steps:
            return []
        inner = self._rename(name)
        plain = name if fit else _UNFIT.sub("_", name).strip("_")[:_LONGEST_NAME]
        value.name = self._free(plain if _fit_input(plain) or fit else f"x_{plain}"[:_LONGEST_NAME])
        return self._chain(value.name, inner, steps)

    def _adapt_output(self, value: Any, first: bool, last: bool, batches: Collection[int]) -> list[Any]:
        """Declare an output as it is given from now on; the nodes that make it."""
        tensor, name = value.type.tensor_type, value.name
        dims = self._dims(value)
        steps: list[_Step] = []
        if tensor.elem_type != _FLOAT and tensor.elem_type in (*_FLOATS, *_INTEGERS):
            steps.append(_Step("Cast", {"to": _FLOAT}))
            tensor.elem_type = _FLOAT
        if dims is not None and len(dims) < 2:
            # Exporters squeeze the batch of one away with other sides of 1; what is left is one sample's.
            sides = [1, -1] if dims and (dims[0] or 1) > 1 else [-1, 1]
            steps.append(_Step("Reshape", operand=np.array(sides, np.int64)))
            del tensor.shape.dim[:]
            for side in sides:
                tensor.shape.dim.add(**({"dim_value": 1} if side == 1 else {}))
        elif dims is not None:
            order = [0, 3, 1, 2] if last and len(dims) == _IMAGE_AXES else _order(dims, batches)
            if order:
                self._permute(tensor, order)
                steps.append(_Step("Transpose", {"perm": order}))
        fit = first or _fit_output(name)
        if fit and not steps:
            return []
        inner = self._rename(name)
        plain = name if fit else _UNFIT.sub("_", name).strip("_").lower()[:_LONGEST_NAME]
        value.name = self._free(plain if _fit_output(plain) or first else f"y_{plain}"[:_LONGEST_NAME])
        return self._chain(inner, value.name, steps)

    def _rename(self, name: str) -> str:
        """Call a value otherwise wherever it is made and used, so that its name is free; return the new name."""
        inner = self._free(f"{name}_inside")
        _rename_in(self._graph, name, inner)
        self._taken.discard(name)
        return inner

    def _chain(self, source: str, target: str, steps: Sequence[_Step]) -> list[Any]:
        """Nodes that compute one value from another, step by step."""
        nodes, current = [], source
        chain = steps or [_Step("Identity")]
        for place, step in enumerate(chain):
            result = target if place == len(chain) - 1 else self._free(f"{target}_{step.kind.lower()}")
            given = [current]
            if step.operand is not None:
                given.append(self._free(f"{target}_operand"))
                self._graph.initializer.append(
                    self._onnx.numpy_helper.from_array(np.asarray(step.operand), given[-1])
                )
            name = f"{step.kind}_{result}"
            nodes.append(
                self._onnx.helper.make_node(step.kind, given, [result], name=name, **step.attributes)
            )
            current = result
        return nodes

    def _dims(self, value: Any) -> list[int | None] | None:
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            return None
        return [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim]

    def _permute(self, tensor: Any, order: Sequence[int]) -> None:
        dims = [each.SerializeToString() for each in tensor.shape.dim]
        del tensor.shape.dim[:]
        for axis in order:
            tensor.shape.dim.add().ParseFromString(dims[axis])

    def _free(self, name: str) -> str:
        while name in self._taken or not name:
            name += "_"
        self._taken.add(name)
        return name


def _rename_in(graph: Any, name: str, other: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for place, each in enumerate(names):
                if each == name:
                    names[place] = other
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_in(attribute.g, name, other)
                for value in attribute.g.output:
                    value.name = other if value.name == name else value.name


def _first(axis: int, rank: int) -> list[int]:
    return [axis, *(each for each in range(rank) if each != axis)]


def _order(dims: Sequence[int | None], batches: Collection[int]) -> list[int]:
    """The order that puts the batch first where it is at one of these axes; empty if it is first."""
    if dims[0] in (None, 1):
        return []
    found = [axis for axis in batches if axis < len(dims) and dims[axis] in (None, 1)]
    return _first(found[0], len(dims)) if found else []
