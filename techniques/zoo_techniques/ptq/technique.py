"""Post-training quantization: int8 from a trained network and a few pictures, with no training at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.errors import UsageError
from zoo.options import option
from zoo.quantization.layer_numbers import LayerNumbers, resolve_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, fx, nn

    from zoo.quantization.layer_numbers import Numbers
    from zoo.quantization.prepare import Layers, QuantizationConfig


@dataclass(frozen=True)
class PtqConfig:
    """Options of `ptq`.

    Attributes:
        mode: `static` fixes the ranges of activations on calibration data; `dynamic` takes those of each
            tensor when it comes, and of the options below knows those of weights and `bias_correction`.
        bits: Width of activations; 8 if dynamic.
        weight_bits: Width of weights; as `bits` if none.
        observer: How the ranges of activations are found. `auto`: for each tensor, and each channel of weights,
            whichever range causes the least error in the layers behind; `minmax`: the largest magnitude seen;
            `moving-average`: the running mean of each image's largest; `percentile`: what holds
            `percentile` per cent of the values; `entropy`: least Kullback-Leibler divergence, as TensorRT's
            calibration; `mse`: least squared error.
        percentile: Of the observer `percentile`.
        weight_observer: `minmax` or `mse`, by channel; if none, `mse` with the observer `mse` and else
            `minmax`; the observer `auto` chooses by channel.
        per_channel: Whether each output channel's weights have a scale of their own.
        symmetric: Whether activations that reach farther to one side of 0 do without more levels there.
        equalize: With the observer `auto`: whether the ranges of channels between two layers are balanced, if
            the output's error shrinks by it.
        rounding: `nearest`, or `adaptive`: each weight up or down, whichever suits its layer's output.
        bias_correction: Whether biases compensate for the mean error of each channel; with the observer
            `auto`, only if the output's error shrinks by it.
        reestimate: With `bias_correction` and the observer `auto`: whether the deviation of each channel is
            restored as well, as batch norms estimated again would do, if the output's error shrinks by it.
        mixed: Layers with other numbers, by name or pattern, and the parts of the network that patterns name:
            `head` or `head:float` stays in float, `head:float16` too with weights stored in 16 bits, `head:6` has
            weights of 6 bits. Of several that name one layer the last counts.
    """

    mode: Literal["static", "dynamic"] = option(
        "static", help="ranges of activations fixed on calibration data, or determined at run time"
    )
    bits: int = option(8, help="width of activations", unit="bit", minimum=2, maximum=8)
    weight_bits: int | None = option(
        None, help="width of weights; the same as `bits` if none", unit="bit", minimum=2, maximum=8
    )
    observer: Literal["auto", "minmax", "moving-average", "percentile", "entropy", "mse"] = option(
        "auto", help="how the ranges of activations are found"
    )
    percentile: float = option(
        99.99, help="share of values that the observer `percentile` covers", unit="%", minimum=50, maximum=100
    )
    weight_observer: Literal["minmax", "mse"] | None = option(
        None, help="how the ranges of weights are found; if none, as `observer` where possible"
    )
    per_channel: bool = option(True, help="whether each output channel's weights have their own scale")
    symmetric: bool = option(
        False, help="keep the levels of signed activations symmetric around 0, as TensorRT takes them"
    )
    equalize: bool = option(True, help="balance the ranges of channels between layers, where that helps")
    rounding: Literal["nearest", "adaptive"] = option(
        "nearest", help="round weights to the nearest level, or up or down by the error of the layer's output"
    )
    bias_correction: bool = option(True, help="correct biases by the mean error of each channel")
    reestimate: bool = option(True, help="restore the deviation of each channel, where that helps")
    mixed: tuple[LayerNumbers, ...] = option(
        (), help="layers that stay in float or have other widths, such as [head,down1.*:float16,up1:6]"
    )

    def __post_init__(self) -> None:
        if self.mode == "dynamic" and self.bits != 8:
            raise UsageError(
                f"ptq: mode=dynamic rounds activations to 8 bits, not {self.bits}.",
                hint="Narrow only the weights with weight_bits, or use mode=static.",
            )
        if self.mode == "dynamic" and self.rounding == "adaptive":
            raise UsageError(
                "ptq: rounding=adaptive needs ranges of activations that are fixed.",
                hint="Use mode=static, or rounding=nearest.",
            )


class Ptq(Technique):
    """Quantize a trained network as it is: observe, choose ranges, round, correct the biases.

    The file is of the kind that `qat` makes: weights symmetric per output channel, activations per
    tensor, batch norms folded, transposed convolutions lowered, concatenated tensors with one scale, the
    network's output in float. In the mode `dynamic` it holds DynamicQuantizeLinear, ConvInteger and
    MatMulInteger instead, and needs no data.
    """

    id = "ptq"
    summary = "post-training quantization to int8, static or dynamic; no training"
    paper = (
        "Krishnamoorthi, Quantizing Deep Convolutional Networks for Efficient Inference, 2018; Nagel et al., "
        "Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019; Nagel et al., Up or "
        "Down? Adaptive Rounding for Post-Training Quantization, ICML 2020"
    )
    phase = Phase.NUMERICS
    Config = PtqConfig
    conflicts = frozenset({"qat", "fixed-point"})
    needs_training = False

    @property
    def least_weight_bits(self) -> float:
        """Return the width of weights, or the least of a layer; those in float have more."""
        config: PtqConfig = self.config
        stated = [each.numbers for each in config.mixed if isinstance(each.numbers, int)]
        return min([config.bits if config.weight_bits is None else config.weight_bits, *stated])

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Round weights and activations, with ranges from the calibration batches."""
        from zoo.quantization.bias import correct_biases
        from zoo.quantization.prepare import QuantizationConfig, calibrate, calibration_batches

        config: PtqConfig = self.config
        weights: Literal["minmax", "mse"] = "mse" if config.observer == "mse" else "minmax"
        quantization = QuantizationConfig(
            bits=config.bits,
            weight_bits=config.bits if config.weight_bits is None else config.weight_bits,
            observer=config.observer,
            per_channel=config.per_channel,
            skewed=not config.symmetric,
            weight_observer=config.weight_observer or weights,
            percentile=config.percentile,
            assign=self._numbers,
        )
        module = self._prepare(model, context, quantization)
        if config.mode == "dynamic" and not config.bias_correction:
            return module
        what = "ranges" if config.mode == "static" else "corrections of biases"
        batches = calibration_batches(context, self.id, what)
        if config.mode == "dynamic":
            correct_biases(module, batches, partial(context.skip_layer, self.id))
            return module
        module.eval()
        if config.observer != "auto":
            calibrate(module, batches)
        self._refine(module, batches, context)
        return module

    def _numbers(self, module: fx.GraphModule, layers: Layers) -> dict[str, Numbers]:
        return resolve_numbers(self.config.mixed, layers, "ptq: mixed")

    def _refine(self, module: fx.GraphModule, batches: Sequence[Tensor], context: Context) -> None:
        """Choose ranges, levels and biases by the error of the output; report what each step won."""
        from zoo.quantization.bias import correct_biases
        from zoo_techniques.ptq.ptq_stages import PtqStages

        config: PtqConfig = self.config
        skip_layer = partial(context.skip_layer, self.id)
        if config.observer != "auto" and config.rounding == "nearest":
            if config.bias_correction:
                correct_biases(module, batches, skip_layer)
            return
        stages = PtqStages(module, batches, context, self.id)
        if config.observer == "auto":
            if config.equalize:
                stages.equalize()
            stages.choose_ranges(weights=config.weight_observer is None)
        if config.rounding == "adaptive":
            stages.round_adaptively()
        if config.bias_correction:
            stages.correct_biases(deviations=False)
            if config.reestimate and config.observer == "auto":
                stages.correct_biases(deviations=True)

    def with_float_layers(self, layers: Sequence[str]) -> Ptq:
        """Return the same with these layers in `mixed`, too."""
        return Ptq(replace(self.config, mixed=(*self.config.mixed, *map(LayerNumbers, layers))))

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        """Fix the scales and round the weights to their levels."""
        from torch import fx

        from zoo.quantization.prepare import freeze

        assert isinstance(model, fx.GraphModule), "finish() gets what rewrite() gave"
        return freeze(model)

    def _prepare(
        self, model: nn.Module, context: Context, quantization: QuantizationConfig
    ) -> fx.GraphModule:
        from zoo.quantization.dynamic import make_dynamic
        from zoo.quantization.prepare import prepare, quantize_weights

        if self.config.mode == "static":
            return prepare(model, context, quantization, self.id)
        skip_layer = partial(context.skip_layer, self.id)
        return make_dynamic(quantize_weights(model, context, quantization, skip_layer))
