"""The loss of each task: how far a network's output is from the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from zoo.contracts import OutputSpec

#: probabilities nearer to 0 or 1 than this count as this far away
_LEAST = 1e-6


def task_loss(output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss for outputs of a kind, a function of (outputs, targets) of one shape to a scalar.

    Masks: binary cross-entropy. Images, and logits that follow a teacher's: mean absolute difference.
    """
    return binary_cross_entropy if output.kind == "mask" else nn.functional.l1_loss


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of probabilities against targets.

    Unlike torch's function it works under autocast, and its gradient stays finite at 0 and 1.

    Args:
        outputs: Probabilities in [0, 1], (N, C, H, W).
        targets: In [0, 1], of the same shape.
    """
    p = outputs.float().clamp(_LEAST, 1 - _LEAST)
    return -(targets * p.log() + (1 - targets) * (-p).log1p()).mean()


@contextmanager
def exact_sigmoids(model: nn.Module, output: OutputSpec) -> Iterator[None]:
    """Let the sigmoids of a net for masks compute in float32 under autocast.

    In bfloat16 a probability above 0.998 is 1 and its gradient 0: pixels that are surely wrong would stay so.
    """

    def widen(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(each.float() if isinstance(each, torch.Tensor) else each for each in args)

    handles = [
        module.register_forward_pre_hook(widen)
        for module in model.modules()
        if output.kind == "mask" and isinstance(module, nn.Sigmoid)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
