"""May a layer's parameter be changed for this layer alone? Where else in a network it is used.

A parameter that two layers hold is tied, as an embedding and the layer that decodes with it are; one that the network's
code reads past its layer is used there too. Whoever changes parameters asks here.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn


@dataclass(frozen=True)
class ParameterSlot:
    """A place where a layer holds a parameter.

    Attributes:
        path: Of the layer, in the network.
        layer: The layer.
        name: Of the parameter, in the layer.
    """

    path: str
    layer: nn.Module
    name: str

    def __str__(self) -> str:
        return f"{self.path}.{self.name}" if self.path else self.name


def tied_parameters(model: nn.Module) -> list[list[ParameterSlot]]:
    """Return the parameters that several layers of a network hold, as the places of each, in definition order."""
    slots: dict[int, list[ParameterSlot]] = {}
    for path, layer in model.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            slots.setdefault(id(parameter), []).append(ParameterSlot(path, layer, name))
    return [group for group in slots.values() if len(group) > 1]


def reads_past_layers(module: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes that read a tensor of a layer that the graph calls as well, in order."""
    called = {
        module.get_submodule(str(node.target)) for node in module.graph.nodes if node.op == "call_module"
    }
    return [
        node
        for node in module.graph.nodes
        if node.op == "get_attr" and module.get_submodule(str(node.target).rpartition(".")[0]) in called
    ]
