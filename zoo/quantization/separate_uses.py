"""One parameter, one use: what quantization changes for one layer must not change another.

Folding a batch norm, reordering channels or rounding changes a layer's parameters. Where another layer shares them, or
the network's code reads them past the layer, each use gets a copy of its own; the values are the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, fx, nn

from zoo.surgery import reads_past_layers, tied_parameters, unused_name


def separate_uses(module: fx.GraphModule) -> list[str]:
    """Give every layer, and every read past a layer, parameters of its own, in place.

    Args:
        module: A traced network.

    Returns:
        What was separated, a sentence each; empty for most networks.
    """
    remarks = [*_separate_layers(module), *_separate_reads(module)]
    module.recompile()
    return remarks


def _separate_layers(module: fx.GraphModule) -> Iterator[str]:
    for first, *others in tied_parameters(module):
        for slot in others:
            parameter = getattr(slot.layer, slot.name)
            copied = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
            setattr(slot.layer, slot.name, copied)
            yield f"{slot} was tied to {first}; from here on it has values of its own"


def _separate_reads(module: fx.GraphModule) -> Iterator[str]:
    copies: dict[str, str] = {}
    for node in reads_past_layers(module):
        path, _, attribute = str(node.target).rpartition(".")
        if node.target not in copies:
            value: Tensor = getattr(module.get_submodule(path), attribute)
            name = unused_name(module, f"{path}_{attribute}_read".replace(".", "_"))
            if isinstance(value, nn.Parameter):
                copied = nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)
                module.register_parameter(name, copied)
            else:
                module.register_buffer(name, value.detach().clone())
            copies[str(node.target)] = name
            yield f"{node.target} is read outside its layer too; that read keeps the values it had"
        node.target = copies[str(node.target)]
