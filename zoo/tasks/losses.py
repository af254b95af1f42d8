"""Losses: how far a network's output is from the target, or from another network's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.tasks.mask_scores import IGNORED

if TYPE_CHECKING:
    from zoo.contracts import OutputSpec

#: probabilities nearer to 0 or 1 than this count as this far away
_LEAST = 1e-6


def following_loss(output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of following another network's output, a function of (ours, theirs) to a scalar.

    Masks: binary cross-entropy. Anything else: mean absolute difference.
    """
    return binary_cross_entropy if output.kind == "mask" else absolute_difference


def soft_targets(output: OutputSpec, temperature: float) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the loss against another network's probabilities; None for outputs that are no probabilities.

    Args:
        output: Masks are compared by binary cross-entropy, logits as :func:`softened_divergence` does.
        temperature: What logits are divided by.
    """
    if output.kind == "mask":
        return binary_cross_entropy
    if output.kind in ("logits", "classes"):
        return lambda ours, theirs: softened_divergence(ours, theirs, temperature)
    return None


def absolute_difference(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute difference of tensors of one shape, (N, C, H, W) or any other."""
    return nn.functional.l1_loss(outputs, targets)


def logits_of_both(logits: Tensor) -> Tensor:
    """Return logits of at least two classes: one alone is that of the second, against 0.

    Args:
        logits: (N, classes), or (N, classes, H, W), which stay as they are.
    """
    single = logits.dim() == 2 and logits.shape[1] == 1
    return nn.functional.pad(logits, (1, 0)) if single else logits


def class_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits against classes.

    Args:
        outputs: (N, classes), or (N, classes, H, W) for a class of each pixel.
        targets: int64 (N,), or (N, H, W); pixels of the class 255 do not count.
    """
    if outputs.dim() == 2:
        return nn.functional.cross_entropy(logits_of_both(outputs.float()), targets)
    return nn.functional.cross_entropy(outputs.float(), targets, ignore_index=IGNORED)


def softened_divergence(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of softened logits, times the temperature squared (Hinton et al.).

    Args:
        ours: Logits, (N, classes) or (N, classes, H, W).
        theirs: The teacher's logits, of the same shape.
        temperature: What both are divided by.

    Returns:
        A scalar, the mean over images and pixels.
    """
    divergence = nn.functional.kl_div(
        (logits_of_both(ours) / temperature).log_softmax(dim=1),
        (logits_of_both(theirs) / temperature).log_softmax(dim=1),
        reduction="sum",
        log_target=True,
    )
    return divergence * temperature**2 / (ours.numel() / ours.shape[1])


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
