"""Copying networks, whatever a call of them left behind."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import Tensor, nn

from zoo.modules.closures import bound_closures

Network = TypeVar("Network", bound=nn.Module)


def copied(model: Network) -> Network:
    """Return a copy of a network, which stays as it is.

    Tensors that the network keeps from its last call (features, weights that hooks compute) lose their history, which
    torch cannot copy. Functions set on the network compute with the copy.

    Args:
        model: Any network.

    Raises:
        Exception: It holds what cannot be copied: locks, open files, generators.
    """
    memo: dict[int, Any] = {}
    for part in model.modules():
        memo |= {id(tensor): tensor.detach().clone() for tensor in _with_history(vars(part))}
    with bound_closures(model):
        return copy.deepcopy(model, memo)


def _with_history(value: Any, depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors in containers that torch could compute gradients for, and that are no parameters."""
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            yield value
    elif depth and isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _with_history(each, depth - 1)
