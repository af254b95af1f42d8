"""Removing groups of channels from all parameters of a network."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor, nn

from zoo.surgery.dependency.channel_graph import ChannelDependencies
from zoo.surgery.resize import keep_along, keep_depthwise, keep_features, keep_inputs, keep_outputs


def remove_groups(
    model: nn.Module, dependencies: ChannelDependencies, removed: AbstractSet[int]
) -> dict[nn.Module, Tensor]:
    """Cut groups of channels out of all parameters of a network, in place.

    Args:
        model: The network that was traced for `dependencies`.
        dependencies: Its channels.
        removed: The groups to remove, as :meth:`ChannelDependencies.group_of` returns them; none may be frozen.

    Returns:
        For each convolution and linear layer that lost outputs, the indices (kept,) of those it kept.
    """
    kept_outputs: dict[nn.Module, Tensor] = {}
    for part in dependencies.slices.values():
        index = _kept(dependencies, part.labels, removed)
        inputs = _kept(dependencies, part.inputs, removed)
        if len(index) == len(part.labels):
            continue
        if part.kind == "in":
            keep_inputs(part.owner, index)
        elif part.kind == "out":
            keep_outputs(part.owner, index)
            kept_outputs[part.owner] = index
        elif part.kind == "depthwise":
            keep_depthwise(part.owner, inputs, index)
            kept_outputs[part.owner] = index
        elif part.kind == "features":
            keep_features(part.owner, index)
        else:
            path = part.name.rpartition(".")[0]
            owner = model.get_submodule(path)
            keep_along(owner, part.kind, part.axis, index)
    return kept_outputs


def _kept(dependencies: ChannelDependencies, labels: Sequence[int], removed: AbstractSet[int]) -> Tensor:
    return torch.tensor(
        [i for i, label in enumerate(labels) if dependencies.group_of(label) not in removed], dtype=torch.long
    )
