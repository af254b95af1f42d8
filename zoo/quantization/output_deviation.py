"""How far a network's output is from what it was without rounding, by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contracts import InputSpec
from zoo.modules.output_tree import primary_output
from zoo.quantization.observers import TINY
from zoo.quantization.quantizer_switches import rounding_off
from zoo.tasks.losses import logits_of_both

#: Numbers in the inputs that networks are judged on, and in those that pass at once.
_MOST, _AT_ONCE = 1 << 22, 1 << 19
#: The least side of a window in pixels, and numbers in all windows.
_SIDE, _WINDOWS = 64, 1 << 19


class OutputDeviation:
    """How far the output of a network is from that without rounding; 0 if it is the same.

    Of classifiers the Kullback-Leibler divergence of the probabilities, in nats; otherwise the squared error as a
    share of the output's power.

    Args:
        module: A network with quantizers.
        batches: (N, C, H, W) each.
        classifies: Whether the output, (N, classes), is logits.
        main: From what the network returns to the output that is judged.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: Sequence[Tensor],
        *,
        classifies: bool,
        main: Callable[[Any], Tensor] = primary_output,
    ) -> None:
        self._module, self._classifies, self._main = module, classifies, main
        self._batches = first_images(batches)
        with torch.no_grad(), rounding_off(module):
            self._expected = [main(module(batch)) for batch in self._batches]

    def measure(self) -> float:
        """Return the mean error of the network as it is now."""
        return float(self.by_image().mean())

    def by_image(self, enough: Callable[[Tensor], bool] = lambda _: False) -> Tensor:
        """Return the error of each image, (images,).

        Args:
            enough: Told the errors of the images so far; where it says so, the others are not computed.
        """
        found = torch.zeros(0, dtype=torch.double)
        for errors in self._errors():
            found = torch.cat([found, errors])
            if enough(found):
                break
        return found

    def _errors(self) -> Iterator[Tensor]:
        for batch, expected in zip(self._batches, self._expected, strict=True):
            with torch.no_grad():
                output = self._main(self._module(batch))
            if self._classifies:
                both = map(logits_of_both, (output, expected))
                found, wanted = (F.log_softmax(each, 1) for each in both)
                yield F.kl_div(found, wanted, reduction="none", log_target=True).sum(1).double().cpu()
            else:
                yield error_shares(output, expected, len(batch))


def busiest_windows(batches: Sequence[Tensor], takes: InputSpec) -> list[Tensor]:
    """Return of each image the window around its largest value, where it matters most what ranges cut off.

    What is judged by the mean over many positions needs no more of them. Windows have at least _SIDE pixels along each
    side, and together _WINDOWS numbers; smaller images, and those of a network of one size, stay whole.

    Args:
        batches: (N, C, H, W) each.
        takes: What sizes the network takes.
    """
    numbers = sum(len(batch) * batch.shape[1] for batch in batches)
    multiple = takes.multiple_of
    side = max(_SIDE, math.isqrt(_WINDOWS // max(1, numbers))) // multiple * multiple
    if takes.fixed_size or not side:
        return list(batches)
    return [_windows(batch, (min(side, batch.shape[2]), min(side, batch.shape[3]))) for batch in batches]


def _windows(batch: Tensor, size: tuple[int, int]) -> Tensor:
    found = []
    for image in batch:
        height, width = image.shape[1:]
        row, column = divmod(int(image.abs().amax(0).argmax()), width)
        top, left = (
            min(max(at - kept // 2, 0), length - kept)
            for at, kept, length in zip((row, column), size, (height, width), strict=True)
        )
        found.append(image[:, top : top + size[0], left : left + size[1]])
    return torch.stack(found)


def first_images(batches: Sequence[Tensor]) -> list[Tensor]:
    """Return the first images of some batches, (N, C, H, W) each, in batches that fit into memory with all results."""
    found: list[Tensor] = []
    left = _MOST
    for batch in batches:
        size = max(1, batch[0].numel())
        count = min(len(batch), max(left // size, 0 if found else 1))
        found += torch.split(batch[:count], max(1, _AT_ONCE // size)) if count else ()
        left -= count * size
    return found


def error_shares(values: Tensor, expected: Tensor, images: int) -> Tensor:
    """Return the squared error of each image as a share of its power, (images,); 0 of what is no tensor of floats."""
    if not isinstance(expected, Tensor) or not expected.is_floating_point():
        return torch.zeros(images, dtype=torch.double)
    rows = images if expected.dim() and len(expected) == images else 1
    error, power = (
        each.square().reshape(rows, -1).mean(1, dtype=torch.double) for each in (values - expected, expected)
    )
    return (error / power.clamp_min(TINY)).expand(images).cpu()
