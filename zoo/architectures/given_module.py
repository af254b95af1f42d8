"""What a user passes as a network, taken as a plain module: without wrappers, in float32, and able to be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def plain_copy(model: nn.Module, label: str) -> nn.Module:
    """Return a copy of a network in float32 without what torch wraps around networks to run them.

    Args:
        model: The network, which is not changed.
        label: What it is called in errors.

    Raises:
        InputError: It cannot be copied, or its layers cannot change: it was scripted, traced, exported or quantized.
    """
    import torch

    from zoo.modules.copying import copied
    from zoo.modules.wrappers import unwrapped

    for part in model.modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise _unchangeable(label, "scripted or traced")
        if isinstance(part, torch.fx.GraphModule) and "eval" in vars(part):  # one that raises
            raise _unchangeable(label, "exported")
        if type(part).__module__.startswith("torch.ao.nn.quantized"):
            raise _unchangeable(label, "quantized")
    try:
        return unwrapped(copied(model)).float()
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


def _unchangeable(label: str, how: str) -> InputError:
    return InputError(
        f"{label} is or holds a {how} module, whose layers cannot change.",
        hint="Use the nn.Module that it was made from, and load its weights into that.",
    )
