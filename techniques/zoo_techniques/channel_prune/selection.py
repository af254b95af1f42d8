"""Choosing which channels of a network go, and removing them for good.

A unit is what :class:`zoo.surgery.dependency.channel_graph.Channels` found to be removable only together; a group is
the units that the same layers make, which compete with each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn

from zoo.surgery.dependency.channel_graph import Channels
from zoo.surgery.dependency.union_find import Role
from zoo.surgery.hooks import evaluating, on_device_of, watch
from zoo.surgery.reconstruction.patches import dense_weight
from zoo.surgery.resize import (
    keep_along,
    keep_depthwise,
    keep_features,
    keep_inputs,
    keep_outputs,
    output_channels,
)


@dataclass(frozen=True)
class Group:
    """Units that compete with each other: their labels, and the layers whose outputs they are."""

    name: str
    units: tuple[int, ...]
    channels: Mapping[int, int]


def groups_of(channels: Channels) -> list[Group]:
    """The groups that may lose units, in order of execution."""
    made = [role for role in channels.roles.values() if role.kind == "out"]
    makers: dict[int, dict[str, None]] = {}
    for role in made:
        for label in role.labels:
            if not channels.pinned(label):
                makers.setdefault(channels.root(label), {})[role.name] = None
    # A layer behind a concatenation, as a gate, may make the channels of several; each keeps some of its own.
    grouped: dict[tuple[str, ...], list[int]] = {}
    for unit, names in makers.items():
        grouped.setdefault(tuple(names), []).append(unit)
    widest: dict[int, int] = {}
    for role in made:
        for unit in {channels.root(label) for label in role.labels}:
            many = sum(channels.root(label) == unit for label in role.labels)
            widest[unit] = max(widest.get(unit, 0), many)
    return [
        Group(names[0], tuple(units), {unit: widest[unit] for unit in units})
        for names, units in grouped.items()
        if len(units) > 1
    ]


# ---------------------------------------------------------------------------------------------------- importance


def by_norm(channels: Channels, order: int) -> dict[int, float]:
    """L1 or L2 norm of the weights that make a unit, mean over the layers that do.

    Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
    """
    return _mean_over_layers(channels, "out", lambda role: _rows(role).flatten(1).norm(p=order, dim=1))


def by_scale(channels: Channels) -> dict[int, float]:
    """Magnitude of the scales of the norms behind a unit; units without a norm are not in it.

    Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    """

    def scales(role: Role) -> Tensor | None:
        weight = getattr(role.owner, "weight", None)
        return None if weight is None or isinstance(role.owner, nn.PReLU) else weight.detach().abs()

    return _mean_over_layers(channels, "features", scales)


def by_contribution(channels: Channels, model: nn.Module, batches: Iterable[Tensor]) -> dict[int, float]:
    """Variance that a unit brings into the outputs of the layers that take it.

    What is left of a channel's removal once the layers' biases have made good its mean.
    """
    takers = {role.owner: role for role in channels.roles.values() if role.kind in ("in", "depthwise")}
    sums: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}

    def add(layer: nn.Module, given: Tensor, output: Tensor) -> None:
        seen = given.detach().double().transpose(0, 1).flatten(1).cpu()
        first, second, count = sums.get(layer, (0, 0, 0))
        sums[layer] = (first + seen.sum(1), second + seen.square().sum(1), count + seen.shape[1])

    with evaluating(model):
        for batch in batches:
            watch(model, takers, batch, add)
    found: dict[int, float] = {}
    for layer, (first, second, count) in sums.items():
        role = takers[layer]
        variance = (second / count - (first / count).square()).clamp_min(0)
        labels = role.inputs or role.labels
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            continue
        energy = dense_weight(layer).double().square().sum((1, 3)).flatten()
        for label, value in zip(labels, (energy * variance).tolist(), strict=True):
            unit = channels.root(label)
            found[unit] = found.get(unit, 0.0) + value
    return found


def by_gradient(
    channels: Channels, model: nn.Module, batches: Iterable[Tensor], seed: int
) -> dict[int, float]:
    """Squared change of the network's output to first order when a unit's weights go to zero.

    The squared norm of the change is the mean of its squared products with random signs (Hutchinson). After
    Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, with the output for the loss,
    so that no labels are needed.
    """
    generator = torch.Generator().manual_seed(seed)
    modes = {module: module.training for module in model.modules()}
    makers = [role for role in channels.roles.values() if role.kind == "out"]
    weights = [cast(Tensor, role.owner.weight) for role in makers]
    trainable = [weight.requires_grad for weight in weights]
    found: dict[int, float] = {}
    try:
        model.eval()
        for weight in weights:
            weight.requires_grad_(True)
        for batch in batches:
            for image in batch:
                output = model(on_device_of(model, image[None]))
                signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
                gradients = torch.autograd.grad((output * signs).sum(), weights, allow_unused=True)
                for role, weight, gradient in zip(makers, weights, gradients, strict=True):
                    if gradient is None:
                        continue
                    change = _rows(role, weight.detach() * gradient).flatten(1).sum(1)
                    for label, value in zip(role.labels, change.double().square().tolist(), strict=True):
                        unit = channels.root(label)
                        found[unit] = found.get(unit, 0.0) + value
    finally:
        for weight, was in zip(weights, trainable, strict=True):
            weight.requires_grad_(was)
        for module in model.modules():
            module.training = modes[module]
    return found


def _rows(role: Role, values: Tensor | None = None) -> Tensor:
    """A layer's weights, or values of their shape, with the output channels in front: (out, ...)."""
    layer = role.owner
    values = cast(Tensor, layer.weight).detach() if values is None else values
    if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d)):  # (in, out / groups, ...)
        grouped = values.view(layer.groups, -1, *values.shape[1:]).transpose(1, 2)
        return grouped.reshape(output_channels(layer), -1)
    return values


def _mean_over_layers(
    channels: Channels, kind: str, score: Callable[[Role], Tensor | None]
) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for role in channels.roles.values():
        scores = score(role) if role.kind == kind else None
        if scores is None:
            continue
        # Layers differ in the size of their weights for reasons of their own: each is measured by its mean.
        relative = (scores.double() / scores.double().mean().clamp_min(1e-300)).tolist()
        for label, value in zip(role.labels, relative, strict=True):
            found.setdefault(channels.root(label), []).append(value)
    return {unit: math.fsum(values) / len(values) for unit, values in found.items()}


# ----------------------------------------------------------------------------------------------------- selection


def choose(
    groups: Sequence[Group], importance: Mapping[int, float], ratio: float, *, globally: bool, round_to: int
) -> set[int]:
    """The units to remove: the least important share of each group, or of all groups together.

    Groups keep a tenth of their units at least, and a multiple of `round_to` channels where they have as many.
    """
    relative: dict[int, float] = {}
    for group in groups:
        mean = math.fsum(importance.get(unit, 0.0) for unit in group.units) / len(group.units)
        for unit in group.units:
            relative[unit] = importance.get(unit, 0.0) / mean if mean > 0 else 1.0
    ranked = sorted(relative, key=relative.__getitem__)
    doomed = set(ranked[: int(ratio * len(ranked))])
    removed: set[int] = set()
    for group in groups:
        wanted = sum(unit in doomed for unit in group.units) if globally else int(ratio * len(group.units))
        order = sorted(group.units, key=relative.__getitem__)
        least = max(1, math.ceil(len(order) / 10))
        kept = max(least, len(order) - wanted)
        if len(set(group.channels.values())) == 1:
            each = next(iter(group.channels.values()))
            step = round_to // math.gcd(round_to, each)
            kept = math.ceil(kept / step) * step
        removed.update(order[: max(0, len(order) - kept)])
    return removed


def choose_within(
    channels: Channels, wanted: float, groups: Sequence[Group], at: Callable[[float], set[int]]
) -> set[int]:
    """The units to remove so that at most `wanted` multiplications stay, and not many fewer.

    at: the units removed at a ratio, more at a larger one. The smallest ratio that does it is found by bisection;
    rounding makes large steps, so groups that need not take the last one are given back what it took.
    """
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if multiplications(channels, at(middle)) > wanted:
            low = middle
        else:
            high = middle
    removed, before = at(high), at(low)
    for group in groups:
        more = removed - (set(group.units) - before)
        if multiplications(channels, more) <= wanted:
            removed = more
    return removed


def multiplications(channels: Channels, removed: AbstractSet[int] = frozenset()) -> int:
    """Multiply-accumulates of the layers that were labelled, on the example input, without the units in `removed`."""
    total = 0
    for layer, positions in channels.positions.items():
        weights = cast(Tensor, layer.weight).numel()
        share = 1.0
        for kind in ("in", "out", "depthwise"):
            role = channels.roles.get((layer, kind))
            if role is not None and role.labels:
                share *= sum(channels.root(label) not in removed for label in role.labels) / len(role.labels)
        total += round(positions * weights * share)
    return total


# ------------------------------------------------------------------------------------------------------- removal


def remove(
    model: nn.Module, module: fx.GraphModule, channels: Channels, removed: AbstractSet[int]
) -> dict[nn.Module, Tensor]:
    """Cut the units out of all parameters of the network, in place.

    model: the network whose graph `module` is. Returns the output channels each changed layer kept.
    """
    kept_outputs: dict[nn.Module, Tensor] = {}
    for role in channels.roles.values():
        index = _kept(channels, role.labels, removed)
        inputs = _kept(channels, role.inputs, removed)
        if len(index) == len(role.labels):
            continue
        if role.kind == "in":
            keep_inputs(role.owner, index)
        elif role.kind == "out":
            keep_outputs(role.owner, index)
            kept_outputs[role.owner] = index
        elif role.kind == "depthwise":
            keep_depthwise(role.owner, inputs, index)
            kept_outputs[role.owner] = index
        elif role.kind == "features":
            keep_features(role.owner, index)
        else:
            path = role.name.rpartition(".")[0]
            owner = model.get_submodule(path)
            keep_along(owner, role.kind, role.axis, index)
    return kept_outputs


def _kept(channels: Channels, labels: Sequence[int], removed: AbstractSet[int]) -> Tensor:
    return torch.tensor(
        [i for i, label in enumerate(labels) if channels.root(label) not in removed], dtype=torch.long
    )
