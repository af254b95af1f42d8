"""Choosing the layers of a network that a technique may replace, with a reason for each that it may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from zoo.contracts import Context
from zoo.surgery.module_tree import names_of
from zoo.surgery.parameter_uses import tied_parameters
from zoo.surgery.plain_layers import has_own_call

Which = Literal["all", "first", "second"]


def find_candidates(
    model: nn.Module,
    context: Context,
    technique: str,
    unsupported_reason: Callable[[nn.Module], str | None],
    *,
    linear: bool = False,
) -> dict[str, nn.Module]:
    """Return the layers that a technique may replace, by their first names, in definition order.

    Considered are convolutions of any kind and, on request, linear layers. A layer is left out, and reported to
    `context` with the reason, if the technique does not support it, if it shares parameters with another layer, if it
    has hooks, or if its weights are not finite real numbers.

    Args:
        model: The network.
        context: Receives the layers that are left out.
        technique: id of the technique, for the report.
        unsupported_reason: Called with each layer; returns why it cannot or need not be replaced, or None.
        linear: Whether to consider linear layers.
    """
    kinds = (_ConvNd, nn.Linear) if linear else (_ConvNd,)
    names = {module: all_names[0] for module, all_names in names_of(model).items()}
    partners = {
        slot.layer: next(other for other in group if other is not slot)
        for group in tied_parameters(model)
        for slot in group
    }
    able: dict[str, nn.Module] = {}
    for module, name in names.items():
        if not isinstance(module, kinds):
            continue
        reason = unsupported_reason(module) or unusable_weight_reason(module)
        if reason is None and module in partners:
            reason = f"it shares its parameters with '{partners[module].path}'"
        if reason is None:
            able[name] = module
        else:
            context.skip_layer(technique, name, reason)
    return able


def unusable_weight_reason(layer: nn.Module) -> str | None:
    """Return why nothing can be computed from a layer's weight (hooks, own methods, values not finite), or None."""
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return "it has hooks, which may compute its weight"
    if has_own_call(layer):
        return "a method that was set on it decides what it computes"
    weight = cast(Tensor, layer.weight)
    if not weight.is_floating_point() or not bool(weight.isfinite().all()):
        return "its weights are not finite real numbers"
    return None


def select_candidates(
    able: dict[str, nn.Module], which: Which, context: Context, technique: str
) -> dict[nn.Module, str]:
    """Select some of the candidates by their position in their block; report the others to `context`.

    Args:
        able: The candidates by name, from :func:`find_candidates`.
        which: "all"; "first" for the 1st, 3rd, ... of each block; "second" for the 2nd, 4th, ...; see
            :func:`group_by_block`.
        context: Receives the layers that are not selected.
        technique: id of the technique, for the report.

    Returns:
        The selected layers with their names.
    """
    taken = {}
    for block in group_by_block(able):
        for index, name in enumerate(block):
            if which in ("all", ("first", "second")[index % 2]):
                taken[able[name]] = name
            else:
                context.skip_layer(technique, name, f"which={which}")
    return taken


def group_by_block(names: Iterable[str]) -> list[list[str]]:
    """Group dotted names by the innermost module that contains at least two of them; keep their order.

    >>> group_by_block(["stem", "a.conv1", "a.conv2", "b.conv1.conv", "b.conv2.conv"])
    [['stem'], ['a.conv1', 'a.conv2'], ['b.conv1.conv', 'b.conv2.conv']]
    """
    held: Counter[str] = Counter()
    names = list(names)
    for name in names:
        held.update(_ancestors(name))
    grouped: dict[str, list[str]] = {}
    for name in names:
        block = next((ancestor for ancestor in _ancestors(name) if held[ancestor] > 1), "")
        grouped.setdefault(block, []).append(name)
    return list(grouped.values())


def _ancestors(name: str) -> Iterator[str]:
    """The names of the modules that contain `name`, innermost first; the root is ""."""
    while name:
        name = name.rpartition(".")[0]
        yield name
