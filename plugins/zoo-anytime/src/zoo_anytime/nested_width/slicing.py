"""A network cut into groups of channels; each of them sees itself and those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from zoo.surgery import layer_of, unused_name
from zoo_anytime.decisions import PREFIX
from zoo_anytime.nested_width.groups import ChannelGroups, padded_channels


class SubNetworkClassifier(nn.Module):
    """The classifier of a sub-network. (N, features) -> (N, classes)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(x)
        return logits


def sliced(
    module: fx.GraphModule, groups: ChannelGroups, count: int
) -> tuple[fx.GraphModule, list[fx.Node], list[fx.Node]]:
    """Return the network with its layers divided, which ends in the logits of the widest sub-network.

    Args:
        module: The traced network, whose last layer is linear; its modules are shared and replaced.
        groups: How the channels are divided.
        count: Into how many groups.

    Returns:
        The network, the node of the features of each sub-network, and that of its logits, both from the narrowest on.
    """
    return _Slicer(module, groups, count).run()


class _Slicer:
    def __init__(self, module: fx.GraphModule, groups: ChannelGroups, count: int) -> None:
        self._module, self._groups, self._count = module, groups, count
        self._graph = fx.Graph()
        self._whole: dict[fx.Node, fx.Node] = {}
        self._parts: dict[fx.Node, list[fx.Node]] = {}
        self._layers: dict[str, nn.Module] = {}

    def run(self) -> tuple[fx.GraphModule, list[fx.Node], list[fx.Node]]:
        output = next(node for node in self._module.graph.nodes if node.op == "output")
        last = cast(fx.Node, output.args[0])
        features: list[fx.Node] = []
        logits: list[fx.Node] = []
        for node in self._module.graph.nodes:
            if node is last:
                features, logits = self._classifiers(node)
            elif node.op == "output":
                self._graph.output(logits[-1])
            elif node not in self._groups:
                self._whole[node] = self._graph.node_copy(node, lambda each: self._whole[each])
            else:
                self._parts[node] = self._divided(node)
        for name, layer in self._layers.items():
            _set(self._module, name, layer)
        made = fx.GraphModule(self._module, self._graph)
        return made, features, logits

    def _divided(self, node: fx.Node) -> list[fx.Node]:
        layer = layer_of(self._module, node)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            return self._divide_layer(node, layer)
        if isinstance(layer, nn.BatchNorm2d):
            parts = [_kept_channels(layer, rows) for rows in self._groups.of(node)]
            return self._calls(node, parts, self._inputs(node))
        found = []
        for number in range(self._count):
            copied = self._graph.node_copy(node, self._chosen(number))
            if padded_channels(node) is not None:
                zeros = self._zeros(node, number)
                sides = cast("tuple[int, ...]", node.args[1])
                copied.args = (copied.args[0], (*sides[:4], *zeros), *copied.args[2:])
            found.append(copied)
        return found

    def _chosen(self, number: int) -> Any:
        return lambda each: self._parts[each][number] if each in self._parts else self._whole[each]

    def _zeros(self, node: fx.Node, number: int) -> tuple[int, int]:
        """How many channels of zeros come before and after those of a group."""
        before, _ = cast("tuple[int, int]", padded_channels(node))
        (source,) = (each for each in node.all_input_nodes if each in self._parts)
        kept = len(self._groups.of(source)[number])
        group = self._groups.of(node)[number]
        first = sum(channel < before for channel in group)
        return first, len(group) - first - kept

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        (source,) = (each for each in node.all_input_nodes)
        return self._parts[source]

    def _seen(self, source: fx.Node) -> tuple[list[fx.Node], list[list[int]]]:
        """For each group: a node of the channels up to it, and their numbers."""
        parts, groups = self._parts[source], self._groups.of(source)
        nodes = [
            parts[0] if number == 0 else self._graph.call_function(torch.cat, (parts[: number + 1], 1))
            for number in range(self._count)
        ]
        return nodes, [[c for group in groups[: number + 1] for c in group] for number in range(self._count)]

    def _divide_layer(self, node: fx.Node, layer: nn.Conv2d | nn.Linear) -> list[fx.Node]:
        (source,) = node.all_input_nodes
        rows = self._groups.of(node)
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            own = [_of_rows(layer, group, [0], len(group)) for group in rows]
            return self._calls(node, own, self._parts[source])
        if source in self._parts:
            nodes, columns = self._seen(source)
        else:
            nodes = [self._whole[source]] * self._count
            columns = [list(range(layer.weight.shape[1]))] * self._count
        parts = [_of_rows(layer, group, seen, 1) for group, seen in zip(rows, columns, strict=True)]
        return self._calls(node, parts, nodes)

    def _calls(self, node: fx.Node, layers: Sequence[nn.Module], inputs: Sequence[fx.Node]) -> list[fx.Node]:
        name = str(node.target)
        self._layers[name] = nn.ModuleDict({f"group_{each}": layer for each, layer in enumerate(layers, 1)})
        return [
            self._graph.call_module(f"{name}.group_{number}", (each,))
            for number, each in enumerate(inputs, 1)
        ]

    def _classifiers(self, node: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
        layer = cast(nn.Linear, layer_of(self._module, node))
        (source,) = node.all_input_nodes
        features, columns = self._seen(source)
        logits = []
        for number, (seen, kept) in enumerate(zip(features, columns, strict=True), 1):
            if number == self._count:
                name = str(node.target)
                self._layers[name] = _of_rows(layer, tuple(range(layer.out_features)), kept, 1)
            else:
                name = unused_name(self._module, f"{PREFIX}{number}")
                own = SubNetworkClassifier(len(kept), layer.out_features)
                self._module.add_submodule(name, own.to(layer.weight.device))
            logits.append(self._graph.call_module(name, (seen,)))
        return features, logits


def _of_rows(
    layer: nn.Conv2d | nn.Linear, rows: Sequence[int], columns: Sequence[int], groups: int
) -> nn.Module:
    """Return a layer with some of the outputs and inputs of another, and their weights."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Conv2d):
        made: nn.Conv2d | nn.Linear = nn.Conv2d(
            len(columns) * groups, len(rows), cast(Any, layer.kernel_size), cast(Any, layer.stride),
            cast(Any, layer.padding), cast(Any, layer.dilation), groups, bias, layer.padding_mode,
        )  # fmt: skip
    else:
        made = nn.Linear(len(columns), len(rows), bias)
    made.to(layer.weight.device)
    with torch.no_grad():
        made.weight.copy_(layer.weight[list(rows)][:, list(columns)])
        if layer.bias is not None:
            made.bias.copy_(layer.bias[list(rows)])
    return made


def _kept_channels(norm: nn.BatchNorm2d, rows: Sequence[int]) -> nn.BatchNorm2d:
    """Return a batch norm of some of the channels of another."""
    made = nn.BatchNorm2d(len(rows), norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    kept = {name: value[list(rows)] if value.dim() else value for name, value in norm.state_dict().items()}
    made.load_state_dict(kept)
    return made.train(norm.training)


def _set(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, layer)
