"""Which layers can lose channels: those whose parameters are their own and mean what they usually mean."""

from __future__ import annotations

from torch import fx, nn

from zoo.surgery.candidates import unusable_weight_reason
from zoo.surgery.parameter_uses import reads_past_layers, tied_parameters


def parameter_names(layer: nn.Module) -> set[str]:
    """Return the attributes of a layer that are parameters."""
    return {name for name, value in layer._parameters.items() if value is not None}


def find_shared_parameters(module: fx.GraphModule) -> set[int]:
    """Return the ids of modules whose parameters other modules share, or the graph reads past a call.

    Args:
        module: A traced network.
    """
    shared = {id(slot.layer) for group in tied_parameters(module) for slot in group}
    for node in reads_past_layers(module):
        shared.add(id(module.get_submodule(str(node.target).rpartition(".")[0])))
    return shared


def unsupported_reason(layer: nn.Module, shared: set[int]) -> str | None:
    """Return why a convolution or linear layer cannot lose channels, or None.

    Args:
        layer: A layer with a weight.
        shared: ids of the modules that :func:`find_shared_parameters` found.
    """
    if id(layer) in shared:
        return "it shares its parameters with another layer"
    reason = unusable_weight_reason(layer)
    if reason is not None:
        return reason
    if parameter_names(layer) - {"weight", "bias"} or "weight" not in layer._parameters or layer._buffers:
        return f"{type(layer).__name__} computes with more than a weight and a bias"
    return None
