"""Choosing which channels of a network to remove.

A group is the channels that :class:`zoo.surgery.dependency.ChannelDependencies` found to be removable only together. A
pool is the groups that the same layers make, which compete with each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from zoo.modules.output_tree import tensors_of
from zoo.surgery import (
    evaluating,
    on_device_of,
    output_channels,
    watch,
)
from zoo.surgery.dependency import ChannelDependencies, ParameterSlice
from zoo.surgery.reconstruction import dense_weight


@dataclass(frozen=True)
class Pool:
    """Groups that compete with each other: those whose channels are outputs of the same layers.

    Attributes:
        name: The first of these layers.
        groups: The groups.
        channels: For each group, how many channels of a layer it has.
    """

    name: str
    groups: tuple[int, ...]
    channels: Mapping[int, int]


def find_pools(dependencies: ChannelDependencies) -> list[Pool]:
    """Return the pools that may lose groups, in order of execution."""
    made = [part for part in dependencies.slices.values() if part.kind == "out"]
    makers: dict[int, dict[str, None]] = {}
    for part in made:
        for label in part.labels:
            if not dependencies.is_frozen(label):
                makers.setdefault(dependencies.group_of(label), {})[part.name] = None
    # A layer behind a concatenation, as a gate, may make the channels of several; each keeps some of its own.
    grouped: dict[tuple[str, ...], list[int]] = {}
    for group, names in makers.items():
        grouped.setdefault(tuple(names), []).append(group)
    widest: dict[int, int] = {}
    for part in made:
        for group in {dependencies.group_of(label) for label in part.labels}:
            many = sum(dependencies.group_of(label) == group for label in part.labels)
            widest[group] = max(widest.get(group, 0), many)
    return [
        Pool(names[0], tuple(groups), {group: widest[group] for group in groups})
        for names, groups in grouped.items()
        if len(groups) > 1
    ]


# ---------------------------------------------------------------------------------------------------- importance


def by_norm(dependencies: ChannelDependencies, order: int) -> dict[int, float]:
    """Rank groups by the L1 or L2 norm of the weights that produce them, mean over the layers that do.

    Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.

    Args:
        dependencies: The network's channels.
        order: 1 or 2.
    """
    return _mean_over_layers(dependencies, "out", lambda part: _rows(part).flatten(1).norm(p=order, dim=1))


def by_scale(dependencies: ChannelDependencies) -> dict[int, float]:
    """Rank groups by the magnitude of the scales of the norms that follow them; groups without a norm are left out.

    Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    """

    def scales(part: ParameterSlice) -> Tensor | None:
        weight = getattr(part.owner, "weight", None)
        return None if weight is None or isinstance(part.owner, nn.PReLU) else weight.detach().abs()

    return _mean_over_layers(dependencies, "features", scales)


def by_contribution(
    dependencies: ChannelDependencies, model: nn.Module, batches: Iterable[Tensor]
) -> dict[int, float]:
    """Rank groups by the variance that they contribute to the outputs of the layers that read them.

    This is the effect of removing a channel once the layers' biases compensate for its mean.

    Args:
        dependencies: The network's channels.
        model: The network that was traced.
        batches: Calibration images, (N, C, H, W) each.
    """
    takers = {part.owner: part for part in dependencies.slices.values() if part.kind in ("in", "depthwise")}
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
        part = takers[layer]
        variance = (second / count - (first / count).square()).clamp_min(0)
        labels = part.inputs or part.labels
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            continue
        energy = dense_weight(layer).double().square().sum((1, 3)).flatten()
        for label, value in zip(labels, (energy * variance).tolist(), strict=True):
            group = dependencies.group_of(label)
            found[group] = found.get(group, 0.0) + value
    return found


def by_gradient(
    dependencies: ChannelDependencies, model: nn.Module, batches: Iterable[Tensor], seed: int
) -> dict[int, float]:
    """Rank groups by the squared change of the network's output, to first order, when their weights become zero.

    The squared norm of the change is the mean of its squared products with random signs (Hutchinson). After Molchanov
    et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, with the output in place of the loss, so that
    no labels are needed.

    Args:
        dependencies: The network's channels.
        model: The network that was traced.
        batches: Calibration images, (N, C, H, W) each.
        seed: Of the random signs.
    """
    generator = torch.Generator().manual_seed(seed)
    modes = {module: module.training for module in model.modules()}
    makers = [part for part in dependencies.slices.values() if part.kind == "out"]
    weights = [cast(Tensor, part.owner.weight) for part in makers]
    trainable = [weight.requires_grad for weight in weights]
    found: dict[int, float] = {}
    try:
        model.eval()
        for weight in weights:
            weight.requires_grad_(True)
        for batch in batches:
            for image in batch:
                total = torch.zeros(())
                for output in tensors_of(model(on_device_of(model, image[None]))).values():
                    signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
                    total = total.to(output) + (output * signs).sum()
                gradients = torch.autograd.grad(total, weights, allow_unused=True)
                for part, weight, gradient in zip(makers, weights, gradients, strict=True):
                    if gradient is None:
                        continue
                    change = _rows(part, weight.detach() * gradient).flatten(1).sum(1)
                    for label, value in zip(part.labels, change.double().square().tolist(), strict=True):
                        group = dependencies.group_of(label)
                        found[group] = found.get(group, 0.0) + value
    finally:
        for weight, was in zip(weights, trainable, strict=True):
            weight.requires_grad_(was)
        for module in model.modules():
            module.training = modes[module]
    return found


def _rows(part: ParameterSlice, values: Tensor | None = None) -> Tensor:
    """A layer's weights, or values of their shape, with the output channels in front: (out, ...)."""
    layer = part.owner
    values = cast(Tensor, layer.weight).detach() if values is None else values
    if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d)):  # (in, out / groups, ...)
        grouped = values.view(layer.groups, -1, *values.shape[1:]).transpose(1, 2)
        return grouped.reshape(output_channels(layer), -1)
    return values


def _mean_over_layers(
    dependencies: ChannelDependencies, kind: str, score: Callable[[ParameterSlice], Tensor | None]
) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for part in dependencies.slices.values():
        scores = score(part) if part.kind == kind else None
        if scores is None:
            continue
        # Layers differ in the size of their weights for reasons of their own: each is measured by its mean.
        relative = (scores.double() / scores.double().mean().clamp_min(1e-300)).tolist()
        for label, value in zip(part.labels, relative, strict=True):
            found.setdefault(dependencies.group_of(label), []).append(value)
    return {group: math.fsum(values) / len(values) for group, values in found.items()}


# ----------------------------------------------------------------------------------------------------- selection


def choose(
    pools: Sequence[Pool], importance: Mapping[int, float], ratio: float, *, globally: bool, round_to: int
) -> set[int]:
    """Return the groups to remove: the least important share of each pool, or of all pools together.

    Args:
        pools: The pools to choose from; each keeps at least a tenth of its groups.
        importance: Of each group.
        ratio: The share to remove, in [0, 1].
        globally: Whether all pools are ranked together, each group by its importance over its pool's mean.
        round_to: Pools keep a multiple of this number of channels, where they have that many. The share is met as
            nearly as that allows by all pools together.
    """
    relative: dict[int, float] = {}
    for pool in pools:
        mean = math.fsum(importance.get(group, 0.0) for group in pool.groups) / len(pool.groups)
        for group in pool.groups:
            relative[group] = importance.get(group, 0.0) / mean if mean > 0 else 1.0
    ranked = sorted(relative, key=relative.__getitem__)
    doomed = set(ranked[: round(ratio * len(ranked))])
    wanted = [
        sum(group in doomed for group in pool.groups) if globally else ratio * len(pool.groups)
        for pool in pools
    ]
    removed: set[int] = set()
    for pool, count in zip(pools, _whole_counts(pools, wanted, round_to), strict=True):
        removed.update(sorted(pool.groups, key=relative.__getitem__)[:count])
    return removed


def _whole_counts(pools: Sequence[Pool], wanted: Sequence[float], round_to: int) -> list[int]:
    """Return how many groups each pool loses: as near as possible to `wanted`, in each pool and in all together.

    Each pool takes the nearest number that leaves a multiple of `round_to` channels. Those that are nearest to the
    number on the other side then take that one, as long as the sum comes nearer to that of `wanted`.
    """
    choices: list[list[int]] = []
    for pool, ideal in zip(pools, wanted, strict=True):
        size = len(pool.groups)
        widths = set(pool.channels.values())
        step = round_to // math.gcd(round_to, next(iter(widths))) if len(widths) == 1 else 1
        least = max(1, math.ceil(size / 10))
        lost = [size - kept for kept in range(step, size, step) if kept >= least] or [0]
        choices.append(sorted({*lost, 0}, key=lambda count, ideal=ideal: (abs(count - ideal), count))[:2])  # type: ignore[misc]
    counts = [each[0] for each in choices]
    missing = math.fsum(wanted) - sum(counts)
    others = [
        ((abs(each[1] - ideal) - abs(each[0] - ideal)) / len(pool.groups), index)
        for index, (pool, each, ideal) in enumerate(zip(pools, choices, wanted, strict=True))
        if len(each) > 1 and min(each) < ideal < max(each)
    ]
    for _, index in sorted(others):
        change = choices[index][1] - choices[index][0]
        if abs(missing - change) < abs(missing) - 1e-9:
            counts[index] += change
            missing -= change
    return counts


def choose_within(
    dependencies: ChannelDependencies, wanted: float, pools: Sequence[Pool], at: Callable[[float], set[int]]
) -> set[int]:
    """Return the groups to remove so that at most `wanted` multiply-accumulates stay, and not many fewer.

    The smallest sufficient ratio is found by bisection. Rounding makes large steps, so pools that need not take the
    last step get back what it removed.

    Args:
        dependencies: The network's channels.
        wanted: Multiply-accumulates that may stay.
        pools: The pools to choose from.
        at: Returns the groups removed at a ratio, more at a larger one.
    """
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if count_macs(dependencies, at(middle)) > wanted:
            low = middle
        else:
            high = middle
    removed, before = at(high), at(low)
    for pool in pools:
        more = removed - (set(pool.groups) - before)
        if count_macs(dependencies, more) <= wanted:
            removed = more
    return removed


def count_macs(dependencies: ChannelDependencies, removed: AbstractSet[int] = frozenset()) -> int:
    """Return the multiply-accumulates of the labelled layers on the example input, without the groups in `removed`."""
    total = 0
    for layer, positions in dependencies.positions.items():
        weights = cast(Tensor, layer.weight).numel()
        share = 1.0
        for kind in ("in", "out", "depthwise"):
            part = dependencies.slices.get((layer, kind))
            if part is not None and part.labels:
                share *= sum(dependencies.group_of(label) not in removed for label in part.labels) / len(
                    part.labels
                )
        total += round(positions * weights * share)
    return total
