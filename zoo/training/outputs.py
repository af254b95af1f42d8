"""Choosing the output of a network that training uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from zoo.errors import ZooError

#: The key of the main output where a network returns a dictionary, as torchvision's and transformers' do.
_MAIN = ("out", "logits")


def primary_output(outputs: Any) -> torch.Tensor:
    """Return the main output of a network in training, any shape.

    Networks with auxiliary heads return several outputs in training mode; the convention of torchvision is that the
    first one is that of evaluation mode. Of a dictionary it is "out" or "logits", else the first value.

    Raises:
        ZooError: If that is not a tensor.
    """
    chosen = outputs
    while not isinstance(chosen, torch.Tensor):
        if isinstance(chosen, Mapping) and chosen:
            chosen = next((chosen[key] for key in _MAIN if key in chosen), next(iter(chosen.values())))
        elif isinstance(chosen, (tuple, list)) and chosen:
            chosen = chosen[0]
        else:
            raise ZooError(
                f"In training the network returns {type(outputs).__name__} without a tensor to train on.",
                hint="Return the main output first: (output, auxiliary, ...).",
            )
    return chosen


def count_outputs(outputs: Any) -> int:
    """Return how many outputs a network returned: 1 for a tensor."""
    return len(outputs) if isinstance(outputs, (tuple, list, Mapping)) else 1
