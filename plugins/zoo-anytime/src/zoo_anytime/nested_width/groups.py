"""Which channels of each tensor of a network belong to which group."""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.surgery import SUM_OPERATORS, layer_of, shape_of

#: What computes each channel by itself: modules without weights, by where torch defines them, functions and methods.
_MODULES = tuple(
    f"torch.nn.modules.{name}" for name in ("activation", "dropout", "flatten", "padding", "pooling")
)
_NOT_PER_CHANNEL = (
    nn.Softmax,
    nn.Softmax2d,
    nn.LogSoftmax,
    nn.Softmin,
    nn.MultiheadAttention,
    nn.PReLU,
    nn.GLU,
)
_FUNCTIONS: frozenset[Any] = frozenset(
    {
        F.relu, F.relu6, F.leaky_relu, F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.dropout, F.avg_pool2d,
        F.max_pool2d, F.adaptive_avg_pool2d, torch.relu, torch.sigmoid, torch.flatten, torch.mean, operator.getitem,
    }
)  # fmt: skip
_METHODS = frozenset({"relu", "sigmoid", "mean", "flatten", "contiguous"})
_PRODUCTS: frozenset[Any] = frozenset({operator.mul, operator.imul, torch.mul, "mul", "mul_"})
#: Numbers of the padding of an image that pads channels too.
_WITH_CHANNELS = 6

#: The channels of each group, by their numbers in the original network.
Groups = tuple[tuple[int, ...], ...]


def per_channel(module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node computes each channel of its one input by itself, without weights."""
    layer = layer_of(module, node)
    if layer is not None:
        known = type(layer).__module__ in _MODULES or isinstance(layer, nn.Identity)
        return known and not isinstance(layer, _NOT_PER_CHANNEL)
    if node.op == "call_function" and node.target is F.pad:
        return len(cast("tuple[int, ...]", node.args[1])) < _WITH_CHANNELS
    return node.target in (_METHODS if node.op == "call_method" else _FUNCTIONS)


def padded_channels(node: fx.Node) -> tuple[int, int] | None:
    """Return how many channels of zeros a node puts before and after those of its input; None for other nodes."""
    if node.op != "call_function" or node.target is not F.pad:
        return None
    sides = cast("tuple[int, ...]", node.args[1])
    return (sides[4], sides[5]) if len(sides) == _WITH_CHANNELS else None


def combined(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """Return the two tensors that a node adds or multiplies; None for other nodes."""
    if node.target not in SUM_OPERATORS | _PRODUCTS or len(node.args) != 2:
        return None
    first, second = node.args
    return (first, second) if isinstance(first, fx.Node) and isinstance(second, fx.Node) else None


@dataclass
class _Class:
    """Tensors whose channels are divided alike.

    Attributes:
        channels: How many.
        padded: The tensor whose channels it has with zeros before and after, and how many of these.
    """

    channels: int
    padded: tuple[fx.Node, int, int] | None = None


class ChannelGroups:
    """The groups of channels of every tensor behind the first convolution.

    Channels are divided into equal parts in their order. Tensors that are added are divided alike; where one of them
    has been padded with channels of zeros, the other follows it.

    Args:
        module: A traced network.
        count: How many groups.

    Raises:
        ZooError: There is an operation whose channels cannot be followed.
    """

    def __init__(self, module: fx.GraphModule, count: int) -> None:
        self._count = count
        self._classes: dict[fx.Node, _Class] = {}
        for node in module.graph.nodes:
            self._add(module, node)

    def __contains__(self, node: object) -> bool:
        return node in self._classes

    def of(self, node: fx.Node) -> Groups:
        """Return the groups of a tensor's channels."""
        found = self._classes[node]
        if found.padded is None:
            return _parts(range(found.channels), self._count)
        source, before, after = found.padded
        inner = self.of(source)
        zeros = (
            _parts(range(before), self._count),
            _parts(range(found.channels - after, found.channels), self._count),
        )
        return tuple(
            (*zeros[0][each], *(before + channel for channel in inner[each]), *zeros[1][each])
            for each in range(self._count)
        )

    def _add(self, module: fx.GraphModule, node: fx.Node) -> None:
        inputs = [each for each in node.all_input_nodes if each in self._classes]
        layer = layer_of(module, node)
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and (inputs or isinstance(layer, nn.Conv2d)):
            self._add_layer(node, layer, inputs)
        elif not inputs or node.op == "output":
            return
        elif (both := combined(node)) is not None:
            self._join(node, *both)
        elif (padding := padded_channels(node)) is not None:
            source = self._classes[inputs[0]]
            self._classes[node] = _Class(source.channels + sum(padding), (inputs[0], *padding))
        elif isinstance(layer, nn.BatchNorm2d) or per_channel(module, node):
            self._same(node, inputs[0])
        else:
            raise ZooError(
                f"nested-width cannot divide the channels at '{node.name}' ({_called(layer, node)}).",
                hint="It is for networks of convolutions, batch norms, activations, sums and one linear layer.",
            )

    def _add_layer(self, node: fx.Node, layer: nn.Conv2d | nn.Linear, inputs: list[fx.Node]) -> None:
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            if layer.groups != layer.in_channels or layer.out_channels != layer.in_channels or not inputs:
                raise ZooError(f"nested-width cannot divide the groups of the convolution '{node.target}'.")
            self._same(node, inputs[0])
            return
        channels = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
        if channels < self._count and not _is_last(node):
            raise ZooError(
                f"nested-width cannot divide the {channels} channels of '{node.target}' into {self._count} groups.",
                hint="Ask for fewer:  nested-width(groups=2)",
            )
        self._classes[node] = _Class(channels)

    def _same(self, node: fx.Node, source: fx.Node) -> None:
        found, shape = self._classes[source], shape_of(node)
        if shape is not None and shape[1] != found.channels:
            raise ZooError(
                f"nested-width cannot follow the channels at '{node.name}': {found.channels} become {shape[1]}.",
                hint="Networks must average over positions before they flatten.",
            )
        self._classes[node] = found

    def _join(self, node: fx.Node, first: fx.Node, second: fx.Node) -> None:
        """Let two tensors that meet be divided alike."""
        one, two = self._classes.get(first), self._classes.get(second)
        if one is None or two is None or one.channels != two.channels or (one.padded and two.padded):
            raise ZooError(f"nested-width cannot divide alike what meets at '{node.name}'.")
        kept, other = (two, one) if two.padded else (one, two)
        for each, found in self._classes.items():
            if found is other:
                self._classes[each] = kept
        self._classes[node] = kept


def _is_last(node: fx.Node) -> bool:
    return any(user.op == "output" for user in node.users)


def _parts(channels: range, count: int) -> Groups:
    """Divide channels into equal parts in order; where that is uneven, the first ones have one more."""
    edges = [-(-len(channels) * number // count) for number in range(count + 1)]
    return tuple(tuple(channels[low:high]) for low, high in itertools.pairwise(edges))


def _called(layer: nn.Module | None, node: fx.Node) -> str:
    return type(layer).__name__ if layer is not None else str(getattr(node.target, "__name__", node.target))
