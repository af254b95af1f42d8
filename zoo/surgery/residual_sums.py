"""Sums of a traced network in which a tensor meets what a block computes from it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from zoo.surgery.fx_graph import DataFlow, layer_of, summed_inputs
from zoo.surgery.resize import WEIGHTED_LAYERS


@dataclass(frozen=True)
class ResidualSum:
    """A sum whose one side comes from the other's beginning past its layers.

    Attributes:
        node: The sum.
        start: The last tensor that all data on both sides passes through.
        carried: The side with fewer layers.
        computed: The other side.
        link_layers: Names of the layers with weights on the way to `carried`, at most one.
        block_layers: Those on the way to `computed`, in order.
    """

    node: fx.Node
    start: fx.Node
    carried: fx.Node
    computed: fx.Node
    link_layers: tuple[str, ...]
    block_layers: tuple[str, ...]

    @property
    def block(self) -> str:
        """Return the name of the module that holds the layers of the block, or of its layer if there is one; or ""."""
        if len(self.block_layers) == 1:
            return self.block_layers[0]
        return ".".join(_common([name.split(".")[:-1] for name in self.block_layers]))


def residual_sums(module: fx.GraphModule, flow: DataFlow) -> list[ResidualSum]:
    """Return the sums in which one side is the input of the other's layers, or one layer away from it, in order.

    Args:
        module: A traced network.
        flow: Its paths of data.
    """
    found, known = list[ResidualSum](), set(flow.nodes)
    for node in flow.nodes:
        sides = summed_inputs(node)
        if sides is None or sides[0] is sides[1] or not known.issuperset(sides):
            continue
        start = flow.common_dominators(sides)[-1:]
        if not start:
            continue
        layers = [_weighted(module, flow, start[0], side) for side in sides]
        carried, computed = sides if len(layers[0]) <= len(layers[1]) else sides[::-1]
        short, long = sorted(layers, key=len)
        if len(short) <= 1 and len(short) < len(long):
            found.append(ResidualSum(node, start[0], carried, computed, short, long))
    return found


def _weighted(module: fx.GraphModule, flow: DataFlow, start: fx.Node, end: fx.Node) -> tuple[str, ...]:
    """Names of the layers with weights on the way from `start` to `end`."""
    way = [*flow.between(start, end), *([end] if end is not start else [])]
    return tuple(str(node.target) for node in way if isinstance(layer_of(module, node), WEIGHTED_LAYERS))


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    """What all paths begin with."""
    levels = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))
    return [level[0] for level in levels]
