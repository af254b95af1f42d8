"""Making a network plain before anything else happens to it: torch's own layers, each with the weight that it uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from zoo.errors import ZooError
from zoo.modules.closures import bind_closures
from zoo.surgery.plain_layers import make_layers_plain
from zoo.surgery.plain_weights import make_weights_plain
from zoo.training.inputs import example_of

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import InputSpec

_SHOWN = 4


def make_network_plain(model: nn.Module, spec: InputSpec) -> Iterator[str]:
    """Replace computed weights by their values and layers of classes of their own by torch's, in place and exactly.

    Functions set on the network are bound to it, so that copies of it compute with their own layers.

    Args:
        model: Any network.
        spec: Its input.

    Yields:
        What was done, in sentences.

    Raises:
        ZooError: A part of it is scripted, or reads what a weight is computed from.
    """
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ZooError(
                f"'{path or type(model).__name__}' is a scripted or traced module, whose layers cannot change.",
                hint="Use the nn.Module that it was made from, and load its weights into that.",
            )
    bind_closures(model)
    weights = make_weights_plain(model, example_of(spec))
    if weights:
        yield (
            "Computed weights (weight norm and the like) are plain tensors from here on, with the same values: "
            f"{_some(weights)}."
        )
    layers = make_layers_plain(model, example_of(spec))
    for folded, how in ((False, ""), (True, ", the weights that they compute stored as they are now")):
        names = [f"{each.name} ({each.was})" for each in layers if each.folded is folded]
        if names:
            yield f"These are plain layers from here on, with the same results{how}: {_some(names)}."


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
