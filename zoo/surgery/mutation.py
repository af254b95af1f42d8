"""In-place operations of a traced network, replaced by operations that leave their operands alone.

Rounding an activation must not find it changed behind its back. An operation in place changes every tensor that shares
memory with its operand. Which do is known from the example's values: what is written through a view is written back
into the tensor that was viewed, and other views of it are taken again where they are used afterwards.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from zoo.errors import ZooError
from zoo.surgery.example_values import UNKNOWN, ExampleValues

#: In-place operators and what computes the same without changing their operand.
_OUT_OF_PLACE: dict[Any, Callable[..., Any]] = {
    getattr(operator, f"i{name}"): getattr(operator, f"{name}_", None) or getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
}
#: Methods that return several views, which are one operation to autograd.
_SEVERAL = frozenset({"chunk", "split", "tensor_split", "unbind"})
_HINT = "Write it without changing the tensor in place: y = x * 2 instead of x.mul_(2)."


def write_slice(base: Tensor, part: Tensor, index: Any) -> Tensor:
    """Return a copy of `base` (N, ...) with `part` in place of ``base[index]``."""
    result = base.clone()
    result[index] = part
    return result


def write_view(
    base: Tensor, part: Tensor, steps: Sequence[tuple[str, tuple[Any, ...], dict[str, Any]]]
) -> Tensor:
    """Return a copy of `base` with `part` in place of a view of it.

    Args:
        base: Any shape.
        part: Of the view's shape.
        steps: The methods that make the view, each with its arguments: ``("narrow", (1, 0, 4), {})``.
    """
    result = base.clone()
    view: Any = result
    parts: list[Tensor] = []
    for name, args, kwargs in steps:
        if name in _SEVERAL:
            parts = _parts(view, name, args, kwargs)
        elif name == "getitem":
            view, parts = parts[args[0]] if parts else view[args[0]], []
        else:
            view = getattr(view, name)
            view = view(*args, **kwargs) if callable(view) else view
    view.copy_(part)
    return result


def _parts(x: Tensor, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The parts of a tensor, each as a view of its own: torch has no gradients of writes into views made together."""
    at = 0 if name == "unbind" else 1
    dim = args[at] if len(args) > at else kwargs.get("dim", 0)
    sizes = [
        1 if name == "unbind" else part.shape[dim] for part in getattr(x.detach(), name)(*args, **kwargs)
    ]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    if name == "unbind":
        return [x.select(dim, start) for start in starts]
    return [x.narrow(dim, start, size) for start, size in zip(starts, sizes, strict=True)]


def write_into(x: Tensor, method: str, *args: Any, **kwargs: Any) -> Tensor:
    """Return what a method that changes its tensor makes of a copy of `x`, (N, ...)."""
    result = x.clone()
    getattr(result, method)(*args, **kwargs)
    return result


def remove_mutation(module: fx.GraphModule, values: ExampleValues) -> None:
    """Replace in-place operations, in the graph's place; `module` is recompiled by the caller.

    Args:
        module: A graph as traced.
        values: What its nodes are on an example.

    Raises:
        ZooError: An operation changes a tensor in a way that cannot be followed, or the network's own tensors; it is
            named.
    """
    rewriter = _Rewriter(module, values)
    for node in list(module.graph.nodes):
        rewriter.visit(node)
    for child in module.modules():
        if getattr(child, "inplace", False) is True:
            child.inplace = False  # type: ignore[assignment]


class _Rewriter:
    """Walks a graph in order and knows what each tensor is after the changes so far."""

    def __init__(self, module: fx.GraphModule, values: ExampleValues) -> None:
        self.module, self.graph, self.values = module, module.graph, values
        #: For each memory that was changed: how often, and the node that first had it.
        self._changes: dict[int, int] = {}
        self._origin: dict[int, fx.Node] = {}
        #: What a node is now, and after how many changes of its memory that was so.
        self._now: dict[fx.Node, tuple[int, fx.Node]] = {}
        #: The nodes as traced: what each is a view of, and its arguments.
        self._source: dict[fx.Node, fx.Node] = {}
        self._arguments: dict[fx.Node, tuple[Any, Any]] = {}
        self._memory: dict[fx.Node, set[int]] = {}

    def visit(self, node: fx.Node) -> None:
        self._memory[node] = self.values.memory(node)
        self._arguments[node] = node.args, node.kwargs
        for memory in self._memory[node]:
            viewed = [source for source in node.all_input_nodes if memory in self._memory[source]]
            if viewed:
                self._source[node] = viewed[0]
            if len(self._memory[node]) == 1 and (not viewed or len(self._memory[viewed[0]]) > 1):
                self._origin.setdefault(memory, node)
        changed = self._changed(node)
        node.args = fx.node.map_arg(node.args, lambda source: self._current(source, node))
        node.kwargs = fx.node.map_arg(node.kwargs, lambda source: self._current(source, node))
        if self._changes and node.op != "output":
            self._hold_to_present(node)
        if changed is not None:
            self._change(node, changed)

    def _hold_to_present(self, node: fx.Node) -> None:
        """A view taken after a change is a view of what is there then."""
        for memory in self._memory[node]:
            self._now[node] = self._changes.get(memory, 0), node

    def _changed(self, node: fx.Node) -> fx.Node | None:
        """The input that a node changes; None for most."""
        found = self.values.changed.get(node, [])
        if not found:
            unknown = self.values.of(node) is UNKNOWN and self._looks_in_place(node)
            return cast(fx.Node, node.args[0]) if unknown else None
        out = node.kwargs.get("out")
        target = out if isinstance(out, fx.Node) else found[0]
        if (
            any(self._memory[each] != self._memory[target] for each in found)
            or len(self._memory[target]) != 1
        ):
            raise self._refusal(node, "changes several tensors in place")
        return target

    def _looks_in_place(self, node: fx.Node) -> bool:
        """Whether a node whose value is not known changes its first argument, by its name."""
        if not node.args or not isinstance(node.args[0], fx.Node):
            return False
        name = _name(node)
        return (
            node.target is operator.setitem
            or node.target in _OUT_OF_PLACE
            or node.kwargs.get("inplace") is True
            or (
                node.op in ("call_method", "call_function") and name.endswith("_") and not name.endswith("__")
            )
        )

    def _current(self, node: fx.Node, before: fx.Node) -> fx.Node:
        """What a node is at a place of the graph, after the changes up to there."""
        memories = [memory for memory in self._memory[node] if memory in self._changes]
        if not memories:
            return self._now[node][1] if node in self._now else node
        changes, now = self._now.get(node, (0, node))
        if changes == self._changes[memories[0]] and len(memories) == 1:
            return now
        if len(self._memory[node]) > 1:
            raise self._refusal(node, "is changed in place in part and used again")
        now = self._view_again(node, memories[0], before)
        self._now[node] = self._changes[memories[0]], now
        return now

    def _path(self, node: fx.Node, memory: int) -> list[fx.Node]:
        """The nodes that make a view of the tensor that its memory was first."""
        path: list[fx.Node] = []
        while node is not self._origin[memory]:
            if node in self.values.changed or self._same_place(node):
                node = self._source[node]
                continue
            path.insert(0, node)
            node = self._source[node]
        return path

    def _same_place(self, node: fx.Node) -> bool:
        """Whether a node is the whole of what it views, in the same order."""
        one, other = self.values.of(node), self.values.of(self._source[node])
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            return False
        return (one.shape, one.stride(), one.storage_offset()) == (
            other.shape, other.stride(), other.storage_offset(),
        )  # fmt: skip

    def _view_again(self, node: fx.Node, memory: int, before: fx.Node) -> fx.Node:
        place = self._now[self._origin[memory]][1]
        for view in self._path(node, memory):
            source = self._source[view]
            base = place

            def replaced(each: fx.Node, source: fx.Node = source, base: fx.Node = base) -> fx.Node:
                return base if each is source else self._current(each, before)

            args, kwargs = (fx.node.map_arg(each, replaced) for each in self._arguments[view])
            with self.graph.inserting_before(before):
                place = self.graph.create_node(view.op, view.target, args, kwargs)
        return place

    def _change(self, node: fx.Node, changed: fx.Node) -> None:
        if changed.op == "get_attr":
            raise ZooError(
                f"forward() changes the network's own tensor '{changed.target}' in '{node.name}', so that no two calls "
                "are alike.",
                hint="Change it only while training:  if self.training: ...",
            )
        result = self._without_change(node)
        if not self._memory[changed]:  # not known: it has no views that are known
            self._now[changed] = self._now[node] = 0, result
            return
        (memory,) = self._memory[changed]
        origin = self._origin[memory]
        self._changes[memory] = self._changes.get(memory, 0) + 1
        path = self._path(changed, memory)
        whole = result
        if path:
            whole = self._written(self._now.get(origin, (0, origin))[1], result, path)
        for each, value in ((origin, whole), (changed, result), (node, result)):
            self._now[each] = self._changes[memory], value

    def _written(self, base: fx.Node, part: fx.Node, path: list[fx.Node]) -> fx.Node:
        """The tensor with a changed view of it written back."""
        steps = [self._step(view) for view in path]
        with self.graph.inserting_before(part.next):
            if len(steps) == 1 and steps[0][0] == "getitem":
                return self.graph.call_function(write_slice, (base, part, steps[0][1][0]))
            return self.graph.call_function(write_view, (base, part, tuple(steps)))

    def _step(self, view: fx.Node) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """How a view is made, as the name and the arguments of a method."""
        args, kwargs = view.args[1:], dict(view.kwargs)
        if view.op == "call_module":
            layer = self.module.get_submodule(str(view.target))
            if isinstance(layer, nn.Flatten):
                return "flatten", (layer.start_dim, layer.end_dim), {}
            if isinstance(layer, nn.Unflatten):
                return "unflatten", (layer.dim, layer.unflattened_size), {}
        elif view.target is getattr:
            return str(args[0]), (), {}
        elif hasattr(Tensor, _name(view)) or view.target is operator.getitem:
            return _name(view), args, kwargs
        raise self._refusal(view, "is a view of a tensor, changed in place")

    def _without_change(self, node: fx.Node) -> fx.Node:
        """Make a node compute the same without changing its operand."""
        if node.target is operator.setitem:
            base, index, value = node.args
            with self.graph.inserting_before(node):
                written = self.graph.call_function(write_slice, (base, value, index))
            self.graph.erase_node(node)
            return written
        if isinstance(node.kwargs.get("out"), fx.Node):
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "out"}
            return node
        if node.op == "call_module":
            layer = self.module.get_submodule(str(node.target))
            if not any(getattr(child, "inplace", False) is True for child in layer.modules()):
                raise self._refusal(node, "changes its input in place")
            return node
        if node.target in _OUT_OF_PLACE:
            node.target = _OUT_OF_PLACE[node.target]
            return node
        if node.op == "call_function" and _turn_off_in_place(node):
            return node
        return self._renamed(node)

    def _renamed(self, node: fx.Node) -> fx.Node:
        name = _name(node)
        if not name.endswith("_") or name.endswith("__"):
            raise self._refusal(node, "changes a tensor in place")
        alike = (
            len({each.dtype for source in node.all_input_nodes for each in _tensors(self.values, source)})
            <= 1
        )
        plain = name[:-1]
        if node.op == "call_method" and alike and plain not in ("set", "resize") and hasattr(Tensor, plain):
            node.target = plain
            return node
        for home in (nn.functional, torch):
            if getattr(home, name, None) is node.target and hasattr(home, plain):
                node.target = getattr(home, plain)
                return node
        if not hasattr(Tensor, name):
            raise self._refusal(node, "changes a tensor in place")
        node.op, node.target, node.args = "call_function", write_into, (node.args[0], name, *node.args[1:])
        return node

    def _refusal(self, node: fx.Node, what: str) -> ZooError:
        name = node.target if node.op == "call_module" else node.name
        return ZooError(f"'{name}' {what}, which cannot be followed.", hint=_HINT)


def _tensors(values: ExampleValues, node: fx.Node) -> list[Tensor]:
    value = values.of(node)
    return [value] if isinstance(value, Tensor) else []


def _turn_off_in_place(node: fx.Node) -> bool:
    """Give the argument `inplace` of a function the value False, however it was given; False if it has none."""
    if "inplace" in node.kwargs:
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    assert callable(node.target)
    try:
        names = list(inspect.signature(node.target).parameters)
    except ValueError:  # a function of C
        return False
    if "inplace" not in names or names.index("inplace") >= len(node.args):
        return False
    at = names.index("inplace")
    node.args = (*node.args[:at], False, *node.args[at + 1 :])
    return True


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
