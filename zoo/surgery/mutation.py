"""In-place operations of a traced network, replaced by operations that leave their operands alone.

Rounding an activation must not find it changed behind its back. An operation in place changes every tensor that shares
memory with its operand: what is written through a slice is written back into the tensor that was sliced; writes through
other views are refused where the difference could be seen.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from zoo.errors import ZooError

#: In-place operators and what computes the same without changing their operand.
_OUT_OF_PLACE: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
#: Functions and methods whose result may share memory with their first argument.
_VIEWS = frozenset(
    {
        "getitem", "view", "view_as", "reshape", "permute", "transpose", "swapaxes", "movedim", "squeeze", "unsqueeze",
        "narrow", "select", "expand", "expand_as", "flatten", "unflatten", "detach", "chunk", "split", "tensor_split",
        "unbind", "t", "contiguous", "diagonal", "unfold", "real",
    }
)  # fmt: skip
#: Those of them whose parts are adjacent.
_PARTS = frozenset({"chunk", "split", "tensor_split", "unbind"})


def write_slice(base: Tensor, part: Tensor, index: Any) -> Tensor:
    """Return a copy of `base` (N, ...) with `part` in place of ``base[index]``."""
    result = base.clone()
    result[index] = part
    return result


class MutableProxy(fx.Proxy):
    """A traced value that accepts ``x[index] = value``."""

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})


def remove_mutation(module: fx.GraphModule) -> None:
    """Replace in-place operations, in place of the graph; `module` is recompiled.

    Raises:
        ZooError: If an operation writes through a view in a way that cannot be followed; it is named.
    """
    inplace = {name for name, child in module.named_modules() if getattr(child, "inplace", False) is True}
    for name in inplace:
        module.get_submodule(name).inplace = False  # type: ignore[assignment]
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is operator.setitem:
            base, index, value = node.args
            with module.graph.inserting_before(node):
                written = module.graph.call_function(write_slice, (base, value, index))
            node.replace_all_uses_with(written)
            module.graph.erase_node(node)
            _carry(module, base, written)
        elif _becomes_pure(node, inplace) and isinstance(node.args[0], fx.Node):
            _carry(module, node.args[0], node)


def _carry(module: fx.GraphModule, changed: fx.Node, result: fx.Node) -> None:
    """After `result`, everything that shared memory with `changed` is what it is after the change."""
    aliases = [each for each in _aliases(changed) if each is not changed and not _comes_after(each, result)]
    others = [each for each in aliases if _used_after(each, result)]
    chain = list(_sliced_from(changed))
    bases = {base for base, _ in chain}
    siblings = {each for each in others if _is_sibling(each, changed)}
    if set(others) - siblings - bases:
        raise ZooError(
            f"'{result.name}' changes a tensor in place that '{sorted(set(others) - siblings - bases, key=str)[0]}' "
            "shares memory with, and both are used afterwards.",
            hint="Write it without changing the tensor in place: y = x * 2 instead of x.mul_(2).",
        )
    _replace_after(changed, result)
    if not bases & set(others):
        return
    place, part = result, result
    for base, index in chain:
        with module.graph.inserting_after(place):
            written = module.graph.call_function(write_slice, (base, part, index))
        _replace_after(base, written)
        place = part = written


def _following(place: fx.Node) -> Iterator[fx.Node]:
    """Yield the nodes after a place of the graph, in order."""
    node = place.next
    while node.op != "root":
        yield node
        node = node.next


def _replace_after(old: fx.Node, new: fx.Node) -> None:
    for node in _following(new):
        node.replace_input_with(old, new)


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _is_view(node: fx.Node) -> bool:
    return node.op in ("call_method", "call_function") and _name(node) in _VIEWS


def _sliced_from(node: fx.Node) -> Iterator[tuple[fx.Node, Any]]:
    """The tensors that a node is a slice of, innermost first, each with the index."""
    while node.op == "call_function" and node.target is operator.getitem:
        base, index = node.args
        if not isinstance(base, fx.Node) or _name(base) in _PARTS:
            return
        yield base, index
        node = base


def _aliases(node: fx.Node) -> list[fx.Node]:
    """All nodes that may share memory with a node."""
    root = node
    while _is_view(root) and isinstance(root.args[0], fx.Node):
        root = root.args[0]
    found, waiting = [root], [root]
    while waiting:
        views = [user for user in waiting.pop().users if _is_view(user) and user not in found]
        found += views
        waiting += views
    return found


def _is_sibling(one: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes are different parts of one chunk or split, or that itself."""
    parts = [
        each.args[0] if each.target is operator.getitem and _name(each.args[0]) in _PARTS else None  # type: ignore[arg-type]
        for each in (one, other)
    ]
    if one is parts[1]:
        return True
    return parts[0] is not None and parts[0] is parts[1] and bool(one.args[1] != other.args[1])


def _comes_after(node: fx.Node, place: fx.Node) -> bool:
    return any(each is node for each in _following(place))


def _used_after(node: fx.Node, place: fx.Node) -> bool:
    return any(each in node.users for each in _following(place))


def _becomes_pure(node: fx.Node, inplace_modules: set[str]) -> bool:
    """Make `node` leave its first argument alone; False if it did already."""
    if not node.args:
        return False
    if node.op == "call_module":
        return node.target in inplace_modules
    if node.op == "call_function" and node.target in _OUT_OF_PLACE:
        node.target = _OUT_OF_PLACE[node.target]
        return True
    if node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    name = _name(node)
    if not name.endswith("_") or name.endswith("__") or node.op not in ("call_method", "call_function"):
        return False
    if node.op == "call_method":
        node.target = name[:-1]
        return True
    for home in (nn.functional, torch):
        if getattr(home, name, None) is node.target and hasattr(home, name[:-1]):
            node.target = getattr(home, name[:-1])
            return True
    return False
