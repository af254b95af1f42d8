"""A trained network of the accuracy benchmark, with its pictures and its score."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zoo.architectures.model_in_memory import ModelInMemory
from zoo.contracts import Architecture, InputSpec, OutputSpec

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """One network.

    Attributes:
        id: Its name in the tables.
        input: Its input.
        output: Its output.
        build: Returns it with its weights, in eval mode.
        calibration: Returns pictures (C, H, W) to calibrate on.
        test: Returns pictures (C, H, W), and what rates the output for each.
        rate: Returns the score of one output for what `test` says of it; the mean is the network's.
        unit: Of the score: "%" or "dB".
        timed: (H, W) of the input that is timed.
        task: What it is for.
        several: Whether it returns several outputs, of which the first that is like `output` is scored.
    """

    id: str
    input: InputSpec
    output: OutputSpec
    build: Callable[[], nn.Module]
    calibration: Callable[[], list[Floats]]
    test: Callable[[], list[tuple[Floats, Any]]]
    rate: Callable[[Floats, Any], float]
    unit: str
    timed: tuple[int, int]
    task: str = "classification"
    several: bool = False

    def architecture(self) -> Architecture:
        """Return what zoo is told of it."""
        if self.several:
            spec = self.input
            return ModelInMemory(
                self.build(),
                torch.zeros(1, spec.channels, *spec.example),
                input=f"{spec.kind}:{spec.channels}x{spec.example[0]}x{spec.example[1]}",
                output=f"{self.output.kind}:{self.output.channels}",
                fixed_size=spec.fixed_size,
                mean=spec.mean,
                std=spec.std,
            )
        made = Architecture()
        made.id, made.summary, made.input, made.output = self.id, self.id, self.input, self.output
        made.task = self.task
        made.build = self.build  # type: ignore[method-assign]
        return made

    def score(self, outputs: list[Floats], targets: list[Any]) -> float:
        """Return the mean score of outputs (C, H, W) or (classes,)."""
        return float(np.mean([self.rate(*pair) for pair in zip(outputs, targets, strict=True)]))


def right_class(output: Floats, target: Any) -> float:
    """Return 100 if the largest of some logits (classes, ...) is that of the class, or else 0."""
    return 100.0 * (int(output.argmax()) == target)


def psnr(output: Floats, target: Any) -> float:
    """Return how well an output (C, H, W) agrees with a picture in [0, 1], in decibels."""
    return -10 * math.log10(float(np.mean((np.clip(output, 0, 1) - target) ** 2)))
