"""Finding the modules of a network by name, and replacing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from zoo.errors import UnknownIdError
from zoo.suggest import did_you_mean

#: What a layer says of itself, and networks ask it, to pad its input for instance.
_GEOMETRY = (
    "in_channels", "out_channels", "in_features", "out_features", "kernel_size", "stride", "padding", "dilation",
)  # fmt: skip


@dataclass(frozen=True)
class ModuleSlot:
    """A place in a network where a module is registered: ``parent.attribute is module``.

    Attributes:
        name: The dotted name; "" for the root.
        module: The module registered there.
        parent: The module that holds it; None for the root.
        attribute: The last part of the name.
    """

    name: str
    module: nn.Module
    parent: nn.Module | None
    attribute: str


def module_slots(root: nn.Module) -> Iterator[ModuleSlot]:
    """Yield every slot of every module, in definition order.

    A module registered twice is yielded twice, with both names. The list is taken at the start, so modules may be
    replaced during the iteration.
    """
    modules = dict(root.named_modules(remove_duplicate=False))
    for name, module in modules.items():
        parent, _, attribute = name.rpartition(".")
        yield ModuleSlot(name, module, modules[parent] if name else None, attribute)


def names_of(root: nn.Module) -> dict[nn.Module, list[str]]:
    """Return all names of each module, the modules in the order of their first names."""
    names: dict[nn.Module, list[str]] = {}
    for place in module_slots(root):
        names.setdefault(place.module, []).append(place.name)
    return names


def replace_module(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Register `new` in every slot of `old`, so that a shared module stays shared.

    `new` takes over the attributes that describe the shape of `old` (`in_channels`, `stride`, ...) unless it has its
    own: some networks read them.

    Args:
        root: The network, changed in place.
        old: The module to replace.
        new: Its replacement.

    Returns:
        The network: `root`, or `new` if `old` was the root.
    """
    for name in _GEOMETRY:
        if hasattr(old, name) and not hasattr(new, name):
            setattr(new, name, getattr(old, name))
    for place in module_slots(root):
        if place.module is old and place.parent is not None:
            setattr(place.parent, place.attribute, new)
    return new if root is old else root


def replace_named(root: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Replace the module with a given name in all of its slots.

    Args:
        root: The network, changed in place.
        name: The dotted name; "" is the root.
        new: The replacement.

    Returns:
        The network: `root`, or `new` if the root was replaced.

    Raises:
        UnknownIdError: There is no such module; the nearest name is suggested.
    """
    for place in module_slots(root):
        if place.name == name:
            return replace_module(root, place.module, new)
    known = [place.name for place in module_slots(root) if place.name]
    raise UnknownIdError(f"The network has no module '{name}'{did_you_mean(name, known)}")
