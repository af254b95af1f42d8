"""What the nodes of a graph compute on an example input, known while the graph is traced.

The values are tensors without data: shapes, types, devices, and which tensors share memory are known, numbers are not.
Sizes, lengths and everything computed from them are the values that the network's code would see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode


class _Unknown:
    """A value that depends on data, or that cannot be computed without it."""


UNKNOWN = _Unknown()


class ExampleValues:
    """The values of nodes, and which of their inputs nodes change in place.

    Args:
        root: The module that is traced.
        example: The input, (N, C, H, W).

    Attributes:
        root: Where nodes find modules and tensors by path.
        running: Whether a value is being computed, so that calls of modules are not to be traced.
        changed: The inputs that a node changes in place, in order.
    """

    def __init__(self, root: nn.Module, example: Tensor) -> None:
        self.running = False
        self.changed: dict[fx.Node, list[fx.Node]] = {}
        self.root = root
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._input: Tensor | None = self._mode.from_tensor(example)
        self._values: dict[fx.Node, Any] = {}

    def of(self, node: fx.Node) -> Any:
        """Return the value of a node; `UNKNOWN` if it cannot be known."""
        return self._values.get(node, UNKNOWN)

    def memory(self, node: fx.Node) -> set[int]:
        """Return which memory a node's tensors occupy; two nodes with some in common are views of one tensor."""
        return {each.untyped_storage()._cdata for each in tensors_in(self.of(node))}

    def add(self, node: fx.Node) -> None:
        """Compute the value of a new node."""
        self.running = True
        try:
            with self._mode, torch.no_grad():
                self._values[node] = self._compute(node)
        except Exception:  # data is needed, or a stranger's code does not run without it
            self._values[node] = UNKNOWN
        finally:
            self.running = False

    def _compute(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            value, self._input = self._input, None
            return UNKNOWN if value is None else value
        if node.op == "output":
            return UNKNOWN
        if node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            value = getattr(self.root.get_submodule(owner), name)
            return self._mode.from_tensor(value) if isinstance(value, Tensor) else value
        sources = {source: self.of(source) for source in node.all_input_nodes}
        if any(value is UNKNOWN for value in sources.values()):
            return UNKNOWN
        args = fx.node.map_arg(node.args, sources.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, sources.__getitem__)
        versions = {
            source: [each._version for each in tensors_in(value)] for source, value in sources.items()
        }
        value = self._call(node, args, kwargs)
        for source, before in versions.items():
            if before != [each._version for each in tensors_in(sources[source])]:
                self.changed.setdefault(node, []).append(source)
        return value

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value: itself, or those of a sequence."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors_in(each)
