"""Finding the modules of a network by name, and putting others in their places."""

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
    """Where a module hangs: `parent.attribute is module`; the root has no parent and the empty name."""

    name: str
    module: nn.Module
    parent: nn.Module | None
    attribute: str


def module_slots(root: nn.Module) -> Iterator[ModuleSlot]:
    """Every place of every module, in definition order.

    A module registered at two places is met twice, with both names. Replacing modules while walking changes
    nothing about what is met.
    """
    modules = dict(root.named_modules(remove_duplicate=False))
    for name, module in modules.items():
        parent, _, attribute = name.rpartition(".")
        yield ModuleSlot(name, module, modules[parent] if name else None, attribute)


def names_of(root: nn.Module) -> dict[nn.Module, list[str]]:
    """All names of each module, in definition order of its first name."""
    names: dict[nn.Module, list[str]] = {}
    for place in module_slots(root):
        names.setdefault(place.module, []).append(place.name)
    return names


def replace_module(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` wherever `old` hangs, so that a shared module stays shared.

    What `old` said of its shape, `new` says too, unless it has an answer of its own.
    Returns the root, which is `new` if `old` was the root.
    """
    for name in _GEOMETRY:
        if hasattr(old, name) and not hasattr(new, name):
            setattr(new, name, getattr(old, name))
    for place in module_slots(root):
        if place.module is old and place.parent is not None:
            setattr(place.parent, place.attribute, new)
    return new if root is old else root


def replace_named(root: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Replace the module called `name` (dotted; "" is the root) at all its places.

    Raises UnknownIdError, with the nearest name, if there is none.
    """
    for place in module_slots(root):
        if place.name == name:
            return replace_module(root, place.module, new)
    known = [place.name for place in module_slots(root) if place.name]
    raise UnknownIdError(f"The network has no module '{name}'{did_you_mean(name, known)}")
