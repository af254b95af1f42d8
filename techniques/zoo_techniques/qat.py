"""Quantization-aware training to one QDQ file that runs whole in int8."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.contracts import Context, Phase, Technique

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class QatConfig:
    """Options of `qat`."""

    bits: int = 8
    weight_bits: int = 8
    observer: Literal["lsq", "mse", "minmax", "moving-average"] = "lsq"
    per_channel: bool = True


class Qat(Technique):
    """Train with the rounding of int8 in the forward pass, so that the weights learn to live with it.

    Weights are symmetric per output channel, activations symmetric per tensor. Batch norms are folded,
    transposed convolutions lowered, concatenated tensors share a scale, the network's output stays in float.
    """

    id = "qat"
    summary = "Quantization-aware training to int8, learned or observed ranges"
    paper = (
        "Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only "
        "Inference, CVPR 2018; Esser et al., Learned Step Size Quantization, ICLR 2020"
    )
    phase = Phase.NUMERICS
    Config = QatConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Insert fake quantization and set the ranges from the calibration batches."""
        from zoo.quantization.prepare import QuantizationConfig, calibrate, prepare

        config: QatConfig = self.config
        module = prepare(
            model,
            context,
            QuantizationConfig(config.bits, config.weight_bits, config.observer, config.per_channel),
        )
        batches: Iterable[torch.Tensor]
        if context.calibration is None:
            context.report.note("qat: no calibration data, the ranges come from the one example input")
            batches = [context.example_input]
        else:
            batches = context.calibration()
        calibrate(module, batches)
        return module

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        """Fix the scales and round the weights to their levels."""
        from zoo.quantization.prepare import freeze

        return freeze(model)
