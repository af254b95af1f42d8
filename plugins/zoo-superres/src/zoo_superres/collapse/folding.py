"""Finding the linear convolutions of a traced network that are one convolution together, and making them one."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import cast

import torch
from torch import fx, nn

from zoo.surgery import (
    SUM_OPERATORS,
    area_of,
    has_own_call,
    is_plain,
    layer_of,
    replace_named,
    shape_of,
    summed_inputs,
)
from zoo_superres.collapse.linear_map import (
    LinearMap,
    NotOneConvolution,
    add,
    compose,
    identity,
    of_batch_norm,
    of_convolution,
)

_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True)
class Fold:
    """Layers that one convolution can replace.

    Attributes:
        source: The node whose value they compute with.
        node: The node of what they compute.
        linear: What they compute.
        names: Of the convolutions, and of the batch norms among them.
        convolutions: How many convolutions there are.
        summed: Whether there are sums among them.
        was: Multiplications for the example input, one by one.
        cost: Multiplications of the one convolution.
    """

    source: fx.Node
    node: fx.Node
    linear: LinearMap
    names: tuple[str, ...]
    convolutions: int
    summed: bool
    was: int
    cost: int

    @property
    def layers(self) -> int:
        """Return the number of layers."""
        return len(self.names)

    @property
    def pays(self) -> bool:
        """Return whether more than batch norms disappear, which every exporter folds."""
        return self.convolutions > 1 or (self.summed and self.convolutions > 0)


#: Folds in a row: each begins with the node that the one before ends with.
_Chain = list[Fold]


def find_folds(module: fx.GraphModule) -> tuple[list[Fold], dict[str, str]]:
    """Return what can be folded, and why layers next to each other stay apart, by the name of the second.

    Args:
        module: A traced network in eval mode whose nodes know their shapes.
    """
    finder = _Finder(module)
    return finder.folds, finder.kept


class _Finder:
    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._calls = Counter(node.target for node in module.graph.nodes if node.op == "call_module")
        self._chains: dict[fx.Node, _Chain] = {}
        #: nodes that compute what another does: a dropout in eval mode, the sum with the number 0
        self._same: dict[fx.Node, fx.Node] = {}
        self.kept: dict[str, str] = {}
        continued: set[fx.Node] = set()
        for node in module.graph.nodes:
            continued.update(self._visit(node))
        ends = [chain for node, chain in self._chains.items() if node not in continued]
        self.folds = [fold for chain in ends for fold in self._divided(chain, report=True) if fold.pays]

    def _visit(self, node: fx.Node) -> Iterator[fx.Node]:
        """Take a node up; yields the nodes whose chains it continues."""
        before = self._passed(node)
        if before is not None:
            self._same[node] = before
            self._chains[node] = self._chain_to(before)
            yield before
            return
        sides = summed_inputs(node)
        if sides is not None:
            total = self._sum(node, *sides)
            if total is not None:
                before = self._chains.get(total.source, []) if _alone(total.source, node) else []
                self._chains[node] = [*before, total]
                yield from (*sides, total.source) if before else sides
            return
        linear = self._linear(node)
        if linear is None:
            return
        source = cast(fx.Node, node.args[0])
        free = linear.scales and not isinstance(layer_of(self._module, node), nn.Conv2d)
        cost = 0 if free else linear.weight.numel() * (area_of(node) or 0)
        fold = Fold(source, node, linear, (str(node.target),), int(not free), False, cost, cost)
        self._chains[node] = [*self._chain_to(source), fold]
        yield source

    def _chain_to(self, node: fx.Node) -> _Chain:
        """The chain that ends with a node, if nothing else needs what that computes."""
        return self._chains.get(node, []) if len(node.users) == 1 else []

    def _passed(self, node: fx.Node) -> fx.Node | None:
        """The node whose value this one passes on as it is."""
        if isinstance(layer_of(self._module, node), _NOTHING):
            return cast(fx.Node, node.args[0])
        if node.target in SUM_OPERATORS and len(node.args) == 2 and not node.kwargs:
            first, second = node.args  # `sum` of a list of branches begins with 0
            for number, rest in ((first, second), (second, first)):
                if isinstance(number, (int, float)) and number == 0 and isinstance(rest, fx.Node):
                    return rest
        return None

    def _linear(self, node: fx.Node) -> LinearMap | None:
        layer = layer_of(self._module, node)
        if layer is None or self._calls[node.target] > 1 or has_own_call(layer) or len(node.args) != 1:
            return None
        if type(layer) is nn.Conv2d and is_plain(layer):
            return of_convolution(layer) if len(shape_of(node) or ()) == 4 else None
        return of_batch_norm(layer) if isinstance(layer, nn.BatchNorm2d) and _only_norm(layer) else None

    def _sum(self, node: fx.Node, one: fx.Node, other: fx.Node) -> Fold | None:
        """The sum of two chains that begin with the same node, if it is one convolution that costs no more."""
        shape = shape_of(node)
        if shape is None or len(shape) != 4 or one is other:
            return None
        chains = [self._chain_to(side) for side in (one, other)]
        sources = [
            self._origin(chain[0].source if chain else side)
            for chain, side in zip(chains, (one, other), strict=True)
        ]
        if sources[0] is not sources[1]:
            return None
        parts = [*chains[0], *chains[1]]
        if not any(part.convolutions for part in parts):
            return None
        try:
            linear = add(*(_whole(chain, shape[1]) for chain in chains))
        except NotOneConvolution as reason:
            self.kept[parts[-1].names[-1]] = str(reason)
            return None
        cost = linear.weight.numel() * (area_of(node) or 0)
        apart = sum(fold.cost for chain in chains for fold in self._divided(chain, report=False))
        if cost > apart:
            self.kept[parts[-1].names[-1]] = (
                "one convolution for it and what it is added to would need more multiplications"
            )
            return None
        return _joined(parts, sources[0], node, linear, cost, summed=True)

    def _origin(self, node: fx.Node) -> fx.Node:
        while node in self._same:
            node = self._same[node]
        return node

    def _divided(self, chain: _Chain, *, report: bool) -> _Chain:
        """The chain in as few folds as it can be computed in with the fewest multiplications."""
        best: list[tuple[float, int, _Chain]] = [(0, 0, [])]
        reasons: dict[int, str] = {}
        for end in range(1, len(chain) + 1):
            found: tuple[float, int, _Chain] = (math.inf, 0, [])
            for start in reversed(range(end)):  # of equals, what joins a layer to the one before
                try:
                    fold = _folded(chain[start:end])
                except NotOneConvolution as reason:
                    if start == end - 2:
                        reasons[start + 1] = str(reason)
                    continue
                cost, count, folds = best[start]
                found = min(found, (cost + fold.cost, count + 1, [*folds, fold]), key=lambda each: each[:2])
            best.append(found)
        folds = best[-1][2]
        if report:
            place = 0
            for fold in folds[:-1]:
                place += next(at for at in itertools.count(1) if chain[place + at - 1].node is fold.node)
                costly = "one convolution for it and the layer before would need more multiplications"
                self.kept[chain[place].names[0]] = reasons.get(place, costly)
        return folds


def _alone(source: fx.Node, node: fx.Node) -> bool:
    """Whether nothing reads the value of `source` but what leads to `node`."""
    inside, waiting = {node}, [node]
    while waiting:
        new = {each for each in waiting.pop().all_input_nodes if each is not source} - inside
        inside |= new
        waiting += new
    return inside.issuperset(source.users)


def _only_norm(layer: nn.BatchNorm2d) -> bool:
    """Whether a batch norm does nothing else: timm's has places for a dropout and an activation."""
    timms = type(layer).__module__.startswith("timm.") and type(layer).__name__ == "BatchNormAct2d"
    return type(layer) is nn.BatchNorm2d or (
        timms and all(isinstance(each, nn.Identity) for each in layer.children())
    )


def _folded(chain: _Chain) -> Fold:
    if len(chain) == 1:
        return chain[0]
    linear = reduce(compose, (each.linear for each in chain))
    node = chain[-1].node
    return _joined(chain, chain[0].source, node, linear, linear.weight.numel() * (area_of(node) or 0))


def _joined(
    parts: _Chain, source: fx.Node, node: fx.Node, linear: LinearMap, cost: int, *, summed: bool = False
) -> Fold:
    names = tuple(name for part in parts for name in part.names)
    convolutions = sum(part.convolutions for part in parts)
    summed = summed or any(part.summed for part in parts)
    return Fold(source, node, linear, names, convolutions, summed, sum(part.was for part in parts), cost)


def _whole(chain: _Chain, channels: int) -> LinearMap:
    return reduce(compose, (each.linear for each in chain)) if chain else identity(channels)


def apply_folds(module: fx.GraphModule, folds: list[Fold]) -> None:
    """Put the convolutions in, under the name of the first convolution that each replaces.

    Args:
        module: The graph, changed in place; what is no longer used is left to :func:`zoo.surgery.clean_up_graph`.
        folds: What :func:`find_folds` returned for it.
    """
    ends: dict[fx.Node, fx.Node] = {}
    for fold in folds:
        convs = [name for name in fold.names if isinstance(module.get_submodule(name), nn.Conv2d)]
        weight = cast(nn.Conv2d, module.get_submodule(convs[0])).weight
        with torch.no_grad():
            replace_named(module, convs[0], fold.linear.layer(weight.detach()))
        source = ends.get(fold.source, fold.source)
        with module.graph.inserting_after(fold.node):
            call = module.graph.call_module(convs[0], (source,))
        call.meta = dict(fold.node.meta)
        ends[fold.node] = call
        fold.node.replace_all_uses_with(call)
