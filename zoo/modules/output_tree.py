"""The outputs of networks that return several: tuples, lists and dictionaries, nested in any way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import Architecture

#: The key of the main output where a network returns a dictionary, as torchvision's and transformers' do.
_MAIN = ("out", "logits", "output")
_UNFIT = re.compile(r"[^a-z0-9]+")


def tensors_of(outputs: Any) -> dict[str, Tensor]:
    """Return every tensor of what a network returned, by its name: keys and positions, joined by underscores.

    A lone tensor is called "0". What is not a tensor is left out.
    """
    return dict(_named(outputs, ()))


def names_of(outputs: Any) -> Any:
    """Return what a network returned with the name of each tensor in its place; see :func:`arranged`."""
    return _mapped(
        outputs, (), lambda place, each: _joined(place) if isinstance(each, torch.Tensor) else None
    )


def arranged(names: Any, extras: Mapping[str, Any], main: Any) -> Any:
    """Return outputs in the form that :func:`names_of` found; dictionaries and dataclasses come as dictionaries.

    Args:
        names: The form.
        extras: The outputs besides the main one.
        main: The main one, whatever its name.
    """
    return _mapped(names, (), lambda _, name: extras.get(name, main))


def _mapped(tree: Any, place: tuple[str, ...], leaf: Callable[[tuple[str, ...], Any], Any]) -> Any:
    if isinstance(tree, (torch.Tensor, str)):
        return leaf(place, tree)
    if isinstance(tree, Mapping):
        return {key: _mapped(value, (*place, str(key)), leaf) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [_mapped(value, (*place, key), leaf) for key, value in zip(_keys(tree), tree, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if hasattr(tree, "__dataclass_fields__"):
        return {
            name: _mapped(getattr(tree, name), (*place, name), leaf) for name in tree.__dataclass_fields__
        }
    return None


def primary_name(outputs: Any) -> str:
    """Return the name of the main output, as :func:`tensors_of` calls it.

    Networks with auxiliary heads return several outputs in training mode; the convention of torchvision is that the
    first one is that of evaluation mode. Of a dictionary it is "out", "logits" or "output", else the first value.

    Raises:
        ZooError: There is no tensor.
    """
    place: tuple[str, ...] = ()
    chosen = outputs
    while not isinstance(chosen, torch.Tensor):
        items = dict(_items(chosen))
        if not items:
            raise ZooError(
                f"The network returns {type(outputs).__name__} without a tensor that could be its output.",
                hint="Return the main output first: (output, auxiliary, ...).",
            )
        key = next((each for each in _MAIN if each in items), next(iter(items)))
        place, chosen = (*place, key), items[key]
    return _joined(place)


def primary_output(outputs: Any, name: str = "") -> Tensor:
    """Return the main output of a network, any shape: that of a name, by default :func:`primary_name`.

    Raises:
        ZooError: There is no tensor.
    """
    return (
        outputs if isinstance(outputs, torch.Tensor) else tensors_of(outputs)[name or primary_name(outputs)]
    )


def split_outputs(outputs: Any, architecture: Architecture) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the main output of a network, and the others that the architecture states, by name.

    Of the others those are left out that the network does not return in its present mode.

    Raises:
        ZooError: The main output is not there.
    """
    if isinstance(outputs, torch.Tensor):
        return outputs, {}
    found = tensors_of(outputs)
    main = architecture.main_output or primary_name(outputs)
    if main not in found:
        raise ZooError(
            f"The network returns no output '{main}', only {', '.join(found) or 'none'}.",
            hint="Return the main output first, or name it as MAIN in the network's file.",
        )
    return found[main], {name: found[name] for name in architecture.extra_outputs if name in found}


def _named(outputs: Any, place: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(outputs, torch.Tensor):
        yield _joined(place), outputs
        return
    for key, value in _items(outputs):
        yield from _named(value, (*place, key))


def _items(outputs: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a container, those that hold no tensor left out."""
    if isinstance(outputs, Mapping):
        pairs = [(str(key), value) for key, value in outputs.items()]
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        pairs = list(zip(_keys(outputs), outputs, strict=True))
    elif hasattr(outputs, "__dataclass_fields__"):
        pairs = [(name, getattr(outputs, name)) for name in outputs.__dataclass_fields__]
    else:
        pairs = []
    for key, value in pairs:
        if isinstance(value, torch.Tensor) or next(_named(value, ()), None) is not None:
            yield key, value


def _keys(parts: Sequence[Any]) -> list[str]:
    """What the parts of a sequence are called: the fields of a named tuple, else their positions."""
    return list(getattr(parts, "_fields", map(str, range(len(parts)))))


def _joined(place: tuple[str, ...]) -> str:
    return "_".join(_UNFIT.sub("_", key.lower()).strip("_") or "0" for key in place) or "0"
