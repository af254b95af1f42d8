"""Building a torch.fx graph node by node, while it runs on an example."""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import fx, nn

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_UNFIT = re.compile(r"[^A-Za-z0-9_]+")
#: Where the example of a node is kept.
_EXAMPLE = "converted_example"
#: Elements of a constant that may be numbers to compute sizes with.
_MOST_NUMBERS = 64


class UnsupportedOperator(Exception):
    """Why an operator cannot be converted; the converter adds which one."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """A small tensor of numbers that is computed from sizes, element by element.

    Attributes:
        values: Array of objects, of any shape: constants, or nodes whose values are Python numbers.
    """

    values: Array

    @classmethod
    def of(cls, items: Sequence[Any], shape: Sequence[int] | None = None) -> Numbers:
        """Return numbers, (items,) unless a shape is stated."""
        values = np.empty(len(items), dtype=object)
        for index, item in enumerate(items):
            values[index] = item
        return cls(values if shape is None else values.reshape(tuple(shape)))

    @property
    def items(self) -> list[Any]:
        """Return the numbers one after the other."""
        return list(self.values.reshape(-1))

    @property
    def known(self) -> bool:
        """Return whether all numbers are constants."""
        return not any(isinstance(item, fx.Node) for item in self.items)

    def array(self) -> Array:
        """Return the constants as an array of the same shape."""
        found = np.array(self.items)
        if found.dtype == np.float64:  # what Python computes in; files do not
            found = found.astype(np.float32)
        return found.reshape(self.values.shape) if self.items else np.zeros(self.values.shape, np.int64)


#: What a value of the ONNX graph is while it is converted: a tensor that the network computes, a constant, or numbers.
Value: TypeAlias = "fx.Node | Array | Numbers"


@dataclass
class Operation:
    """A node of the ONNX graph.

    Attributes:
        kind: The operator, such as "Conv".
        name: Of the node, for messages and for the layer that it becomes.
        inputs: Its values; None for an optional input that is left out.
        input_names: Their names, "" for one that is left out.
        attributes: As Python values and arrays.
        outputs: How many results are wanted.
        opset: Of the file.
    """

    kind: str
    name: str
    inputs: list[Value | None]
    input_names: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 0

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default if the node does not have it."""
        return self.attributes.get(name, default)

    def input(self, index: int) -> Value | None:
        """Return an input; None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def constant(self, index: int, what: str) -> Array | None:
        """Return a constant input; None if it is left out.

        Raises:
            UnsupportedOperator: The network computes it.
        """
        value = self.input(index)
        if value is None or isinstance(value, np.ndarray):
            return value
        if isinstance(value, Numbers) and value.known:
            return value.array()
        raise UnsupportedOperator(f"its {what} is not a constant")


class GraphBuilder:
    """A graph that grows; every node is run on the example as it is added.

    Attributes:
        fixed: Whether sides of tensors other than the first are constants.
    """

    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.root = nn.Module()
        self.graph = fx.Graph()
        self._constants: dict[str, fx.Node] = {}
        self._layers: dict[tuple[Any, ...], str] = {}
        #: Paths of layers and tensors, and of what holds them.
        self._leaves: set[str] = set()
        self._holders: set[str] = set()

    def placeholder(self, example: torch.Tensor) -> fx.Node:
        """Add the input of the network.

        Args:
            example: (N, ...) of its shape.
        """
        node = self.graph.placeholder("x")
        node.meta[_EXAMPLE] = example
        return node

    def call(self, target: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> fx.Node:
        """Add a call of a function, or of a method if `target` is a name."""
        given, named = self.example(args), self.example(kwargs)
        with torch.no_grad():
            if isinstance(target, str):
                value = getattr(given[0], target)(*given[1:], **named)
                node = self.graph.call_method(target, args, kwargs)
            else:
                value = target(*given, **named)
                node = self.graph.call_function(target, args, kwargs)
        node.meta[_EXAMPLE] = value
        return node

    def layer(self, name: str, module: nn.Module, *args: Any, same: tuple[Any, ...] = ()) -> fx.Node:
        """Add a call of a layer.

        Args:
            name: The path that the layer should have.
            module: The layer, in eval mode.
            args: What it is called with.
            same: Identifies the layer: one that was added with an equal key is called again. () for one of its own.
        """
        path = self._layers.get(same) if same else None
        if path is None:
            path = self._free(layer_path(name))
            _add(self.root, path, module.eval())
            if same:
                self._layers[same] = path
        with torch.no_grad():
            value = self.root.get_submodule(path)(*self.example(args))
        node = self.graph.call_module(path, args)
        node.meta[_EXAMPLE] = value
        return node

    def tensor(self, value: Value, name: str = "constant") -> fx.Node:
        """Return a value as a node whose value is a tensor."""
        if isinstance(value, fx.Node):
            return value
        if isinstance(value, Numbers):
            if not value.known:
                made = self.call(torch.tensor, value.items)
                return made if value.values.ndim == 1 else self.call("reshape", made, value.values.shape)
            value = value.array()
        key = f"{name}:{value.dtype}:{value.shape}:{hash(value.tobytes())}"
        if key not in self._constants:
            path = self._free(layer_path(name))
            stored = torch.from_numpy(np.array(value))
            _add(self.root, path, stored)
            node = self.graph.get_attr(path)
            node.meta[_EXAMPLE] = stored
            self._constants[key] = node
        return self._constants[key]

    def operand(self, value: Value, name: str = "constant") -> Any:
        """Return a value for arithmetic: a Python number where it is a constant of one element."""
        if isinstance(value, Numbers) and len(value.items) == 1:
            return value.items[0]
        if isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= 1 and value.dtype != bool:
            return value.item()
        return self.tensor(value, name)

    def example(self, value: Any) -> Any:
        """Return what a node's value is on the example; nodes in tuples, lists and dictionaries are replaced."""
        return fx.node.map_arg(value, lambda node: node.meta[_EXAMPLE])

    def shape(self, value: fx.Node) -> tuple[int, ...]:
        """Return the shape of a tensor on the example."""
        return tuple(self.example(value).shape)

    def sizes(self, value: fx.Node) -> list[Any]:
        """Return the sides of a tensor: numbers where they are constant, else nodes."""
        return [
            side if self.fixed and axis else self.call("size", value, axis)
            for axis, side in enumerate(self.shape(value))
        ]

    def number(self, function: Callable[..., Any], *items: Any) -> Any:
        """Return a function of numbers: a number if all items are, else a node."""
        if any(isinstance(item, fx.Node) for item in items):
            return self.call(function, *items)
        return function(*items)

    def finish(self, result: fx.Node | dict[str, fx.Node]) -> fx.GraphModule:
        """Return the network whose output is `result`, or whose outputs have these names."""
        self.graph.output(result)
        module = fx.GraphModule(self.root, self.graph, class_name="ConvertedOnnx")
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.graph.lint()
        module.recompile()
        return module.eval()

    def _free(self, path: str) -> str:
        """Return the path, with a number appended if it is taken, and note it."""
        free, number = path, 1
        while (
            free in self._leaves
            or free in self._holders
            or any(each in self._leaves for each in _holders_of(free))
        ):
            number += 1
            free = f"{path.replace('.', '_')}_{number}"
        self._leaves.add(free)
        self._holders.update(_holders_of(free))
        return free


def _holders_of(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def layer_path(name: str) -> str:
    """Return a name of the file as the path of a layer: "layer1.0.conv1" and the like stay as they are."""
    parts = [_UNFIT.sub("_", part).strip("_") for part in re.split(r"[./:]+", name)]
    fit = [f"{part}_" if keyword.iskeyword(part) else part for part in parts if part]
    if fit and fit[0][0].isdigit():
        fit[0] = f"layer_{fit[0]}"
    return ".".join(fit[-6:]) or "layer"


def _add(root: nn.Module, path: str, value: nn.Module | torch.Tensor) -> None:
    *holders, last = path.split(".")
    holder = root
    for part in holders:
        if part not in holder._modules:
            holder.add_module(part, nn.Module())
        holder = holder.get_submodule(part)
    if isinstance(value, nn.Module):
        holder.add_module(last, value)
    else:
        holder.register_buffer(last, value)


def as_numbers(value: Value | None) -> Numbers | None:
    """Return numbers, or a constant of few elements as numbers; None if the value is something else."""
    if isinstance(value, Numbers):
        return value
    if isinstance(value, np.ndarray) and value.size <= _MOST_NUMBERS:
        return Numbers.of(value.reshape(-1).tolist(), value.shape)
    return None


def integers(value: Iterable[Any]) -> list[int]:
    """Return numbers as Python integers."""
    return [operator.index(int(item)) for item in value]
