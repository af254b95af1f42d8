"""Functions set on a network that reach parts of it through what they close over.

``net.forward = lambda x: old(net.body(x))`` and hooks written like it hold the network itself. A copy of the network
has copies of its layers, while its functions would still compute with the layers of the original: what is then changed
in the copy would change nothing.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn


class BoundFunction:
    """A function that, when it is copied with its network, closes over the copy."""

    def __init__(self, function: Any) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> BoundFunction:
        return BoundFunction(_copied(self.function, memo))


@contextlib.contextmanager
def bound_closures(model: nn.Module) -> Iterator[None]:
    """Let the functions set on a network's modules, and its hooks, belong to the copies that the body makes of it.

    Args:
        model: The network, which is as it was afterwards.
    """
    replaced = bind_closures(model)
    try:
        yield
    finally:
        for holder, name, value in replaced:
            holder[name] = value


def bind_closures(model: nn.Module) -> list[tuple[dict[Any, Any], Any, Any]]:
    """Let the functions set on a network's modules, and its hooks, belong to whichever copy of it they are on.

    Args:
        model: The network, changed in place; it computes the same.

    Returns:
        What was replaced: where, under which key, and what was there.
    """
    replaced: list[tuple[dict[Any, Any], Any, Any]] = []
    for module in model.modules():
        holders: tuple[dict[Any, Any], ...] = (
            vars(module), module._forward_hooks, module._forward_pre_hooks,
        )  # fmt: skip
        for holder in holders:
            for name, value in holder.items():
                if isinstance(value, (FunctionType, functools.partial)) and _holds_network(value):
                    replaced.append((holder, name, value))
                    holder[name] = BoundFunction(value)
    return replaced


def _holds_network(value: Any, depth: int = 4) -> bool:
    """Whether a value is a part of a network, or reaches one within a few steps."""
    if isinstance(value, (nn.Module, Tensor)):
        return True
    if not depth:
        return False
    inner: tuple[Any, ...] = ()
    if isinstance(value, FunctionType):
        cells = tuple(_contents(cell) for cell in value.__closure__ or ())
        inner = (*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
    elif isinstance(value, MethodType):
        inner = (value.__self__, value.__func__)
    elif isinstance(value, functools.partial):
        inner = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, (list, tuple)):
        inner = tuple(value)
    elif isinstance(value, dict):
        inner = tuple(
            each for each in value.values() if not isinstance(each, Tensor)
        )  # features kept by a hook
    return any(_holds_network(each, depth - 1) for each in inner)


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A copy of what reaches the network, as part of copying the network; everything else as it is."""
    if not _holds_network(value):
        return value
    if isinstance(value, functools.partial):
        args = (_copied(each, memo) for each in value.args)
        named = {name: _copied(each, memo) for name, each in value.keywords.items()}
        return functools.partial(_copied(value.func, memo), *args, **named)
    if not isinstance(value, FunctionType):
        return copy.deepcopy(value, memo)
    cells = tuple(_copied_cell(cell, memo) for cell in value.__closure__ or ())
    defaults = tuple(_copied(each, memo) for each in value.__defaults__ or ())
    new = FunctionType(value.__code__, value.__globals__, value.__name__, defaults or None, cells or None)
    named_defaults = {name: _copied(each, memo) for name, each in (value.__kwdefaults__ or {}).items()}
    new.__kwdefaults__, new.__dict__ = named_defaults or None, dict(value.__dict__)
    return new


def _copied_cell(cell: CellType, memo: dict[int, Any]) -> CellType:
    """Functions that share a variable share its copy."""
    if id(cell) not in memo:
        new = CellType()
        memo[id(cell)] = new
        contents = _contents(cell)
        if contents is not None:
            new.cell_contents = _copied(contents, memo)
    found: CellType = memo[id(cell)]
    return found
