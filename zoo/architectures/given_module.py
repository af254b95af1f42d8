"""What a user passes as a network, taken as a plain module: without wrappers, in float32, and able to be copied."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


def plain_copy(model: nn.Module, label: str) -> nn.Module:
    """Return a copy of a network in float32 without what torch wraps around networks to run them.

    Tensors that the network keeps from its last call (features, weights that hooks compute) lose their history, which
    torch cannot copy.

    Args:
        model: The network, which is not changed.
        label: What it is called in errors.

    Raises:
        InputError: It cannot be copied, or its layers cannot change: it was scripted, traced, exported or quantized.
    """
    import torch

    from zoo.modules.closures import bound_closures
    from zoo.modules.wrappers import unwrapped

    memo: dict[int, Any] = {}
    for part in model.modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise _unchangeable(label, "scripted or traced")
        if isinstance(part, torch.fx.GraphModule) and "eval" in vars(part):  # one that raises
            raise _unchangeable(label, "exported")
        if type(part).__module__.startswith("torch.ao.nn.quantized"):
            raise _unchangeable(label, "quantized")
        memo |= {id(tensor): tensor.detach().clone() for tensor in _with_history(vars(part))}
    try:
        with bound_closures(model):
            return unwrapped(copy.deepcopy(model, memo)).float()
    except Exception as error:  # locks, open files, generators: whatever cannot be copied
        raise InputError(
            f"{label} cannot be copied: {type(error).__name__}: {error}",
            hint="Remove what cannot be copied (open files, locks, generators) from the module.",
        ) from error


def refuse_empty(model: nn.Module, label: str) -> None:
    """Check that the tensors of a network have values.

    Raises:
        InputError: They have none.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    empty = next((name for name, tensor in tensors if tensor.is_meta), None)
    if empty is not None:
        raise InputError(
            f"{label} is on torch's device 'meta': '{empty}' has no values.",
            hint="Build it without  torch.device('meta'),  and load its weights.",
        )


def _with_history(value: Any, depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors in containers that torch could compute gradients for, and that are no parameters."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.grad_fn is not None:
            yield value
    elif depth and isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _with_history(each, depth - 1)


def _unchangeable(label: str, how: str) -> InputError:
    return InputError(
        f"{label} is or holds a {how} module, whose layers cannot change.",
        hint="Use the nn.Module that it was made from, and load its weights into that.",
    )
