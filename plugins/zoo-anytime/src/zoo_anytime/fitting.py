"""Classifiers whose weights are the ridge regression of a network's logits on features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from zoo.contracts import Context

_RIDGE = 1e-3


def fit_classifiers(
    classifiers: Sequence[nn.Linear],
    look: Callable[[Tensor], tuple[Tensor, list[Tensor]]],
    batches: Iterable[Tensor],
) -> None:
    """Set weights and biases of classifiers.

    Args:
        classifiers: What is changed.
        look: Returns for images (N, C, H, W) the logits (N, classes), and the features (N, any) of each classifier.
        batches: The images.
    """
    features: list[list[Tensor]] = [[] for _ in classifiers]
    logits: list[Tensor] = []
    for batch in batches:
        answers, values = look(batch)
        logits.append(answers.double().cpu())
        for found, value in zip(features, values, strict=True):
            found.append(value.double().cpu())
    wanted = torch.cat(logits)
    for found, each in zip(features, classifiers, strict=True):
        weight, bias = _ridge(torch.cat(found), wanted)
        with torch.no_grad():
            each.weight.copy_(weight.T)
            each.bias.copy_(bias)


def images_of(context: Context, images: int) -> Iterator[Tensor]:
    """Yield batches with that many typical inputs in all, as far as there are data."""
    if context.calibration_images is not None:
        yield from context.calibration_images(images)
    elif context.calibration is not None:
        yield from context.calibration()
    else:
        yield context.example_input


def _ridge(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The linear map (in, out) and the offset (out,) from inputs (n, in) to outputs (n, out)."""
    mean, wanted = inputs.mean(0), outputs.mean(0)
    centered = inputs - mean
    gram = centered.T @ centered
    scale = gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    gram += _RIDGE * scale * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, centered.T @ (outputs - wanted))
    return weight, wanted - mean @ weight
