"""Which layers of a network a technique may replace, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, cast

from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from zoo.contracts import Context
from zoo.surgery.module_tree import names_of

Which = Literal["all", "first", "second"]


def find_candidates(
    model: nn.Module,
    context: Context,
    technique: str,
    unsupported_reason: Callable[[nn.Module], str | None],
    *,
    linear: bool = False,
) -> dict[str, nn.Module]:
    """The convolutions (and linear layers, if `linear`) that may be replaced, by their first names.

    unsupported_reason: called with each, says why it cannot or need not be replaced; None if it can.

    Every layer that is left out is named to `context`. Beside the technique's own reasons these keep a layer as
    it is: parameters shared with another one, hooks, weights that are not finite real numbers.
    """
    kinds = (_ConvNd, nn.Linear) if linear else (_ConvNd,)
    names = {module: all_names[0] for module, all_names in names_of(model).items()}
    owners: dict[int, list[str]] = {}
    for module, name in names.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    able: dict[str, nn.Module] = {}
    for module, name in names.items():
        if not isinstance(module, kinds):
            continue
        reason = unsupported_reason(module) or unusable_weight_reason(module)
        others = [o for p in module.parameters(recurse=False) for o in owners[id(p)] if o != name]
        if reason is None and others:
            reason = f"it shares its parameters with '{others[0]}'"
        if reason is None:
            able[name] = module
        else:
            context.skip_layer(technique, name, reason)
    return able


def unusable_weight_reason(layer: nn.Module) -> str | None:
    """Why nothing can be computed from the weight of a layer that has one, or None."""
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return "it has hooks, which may compute its weight"
    weight = cast(Tensor, layer.weight)
    if not weight.is_floating_point() or not bool(weight.isfinite().all()):
        return "its weights are not finite real numbers"
    return None


def parameter_names(layer: nn.Module) -> set[str]:
    """The attributes of a layer that are parameters."""
    return {name for name, value in layer._parameters.items() if value is not None}


def find_shared_parameters(module: fx.GraphModule, kinds: tuple[type[nn.Module], ...]) -> set[int]:
    """Ids of the modules of which a parameter belongs to another one too, or is used past a module of `kinds`."""
    owners: dict[int, set[int]] = {}
    for each in module.modules():
        for parameter in each.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(each))
    shared = {owner for several in owners.values() if len(several) > 1 for owner in several}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            path, _, attribute = str(node.target).rpartition(".")
            owner = module.get_submodule(path)
            if isinstance(owner, kinds) and attribute in owner._parameters:
                shared.add(id(owner))
    return shared


def select_candidates(
    able: dict[str, nn.Module], which: Which, context: Context, technique: str
) -> dict[nn.Module, str]:
    """The candidates that `which` names, with their names.

    "first" takes the 1st, 3rd, ... of each block, "second" the 2nd, 4th, ...; see :func:`group_by_block`.
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
    """Dotted names grouped by the innermost module that contains at least two of them, in the given order.

    >>> blocks(["stem", "a.conv1", "a.conv2", "b.conv1.conv", "b.conv2.conv"])
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
