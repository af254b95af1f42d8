"""Quantization-aware training to one QDQ file that runs whole in int8."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.options import option

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class QatConfig:
    """Options of `qat`.

    bits:        width of activations.
    weight_bits: width of weights; as `bits` if none.
    observer:    how ranges are found: `lsq` learns them in training, starting from those of `mse`; `mse`
                 takes those of least squared error; `minmax` the largest values seen; `moving-average`
                 lets them follow the batches of training.
    per_channel: whether each output channel's weights have a scale of their own.
    """

    bits: int = option(8, help="width of activations", unit="bit", minimum=2, maximum=8)
    weight_bits: int | None = option(
        None, help="width of weights, as `bits` if none", unit="bit", minimum=2, maximum=8
    )
    observer: Literal["lsq", "mse", "minmax", "moving-average"] = option(
        "lsq", help="how ranges are found: learned, least squared error, largest seen, following the batches"
    )
    per_channel: bool = option(True, help="whether each output channel's weights have their own scale")


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
    conflicts = frozenset({"fixed-point", "ptq"})

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Insert fake quantization and set the ranges from the calibration batches."""
        from zoo.quantization.prepare import QuantizationConfig, calibrate, prepare

        config: QatConfig = self.config
        weight_bits = config.bits if config.weight_bits is None else config.weight_bits
        quantization = QuantizationConfig(config.bits, weight_bits, config.observer, config.per_channel)
        module = prepare(model, context, quantization)
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
        from torch import fx

        from zoo.quantization.prepare import freeze

        assert isinstance(model, fx.GraphModule), "finish() gets what rewrite() gave"
        return freeze(model)
