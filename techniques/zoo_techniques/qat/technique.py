"""Quantization-aware training to one QDQ file that runs whole in int8."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.errors import UsageError
from zoo.options import option
from zoo.quantization.layer_numbers import LayerBits, resolve_numbers

if TYPE_CHECKING:
    from torch import fx, nn

    from zoo.quantization.layer_numbers import Numbers
    from zoo.quantization.prepare import Layers


#: The least width that `mixed` gives a layer.
_NARROWEST = 2


@dataclass(frozen=True)
class QatConfig:
    """Options of `qat`.

    Attributes:
        bits: Width of activations.
        weight_bits: Width of weights; as `bits` if none.
        observer: How ranges are found: `lsq` learns them in training, starting from those that `ptq` chooses by the
            error they cause; `mse` minimises the squared error; `minmax` the largest values seen; `moving-average`
            lets them follow the batches of training.
        per_channel: Whether each output channel's weights have a scale of their own.
        symmetric: Whether activations that reach farther to one side of 0 do without more levels there.
        layers: Widths of the weights of single layers, by name or pattern, or `float` for those that stay in
            float, `float16` for the same with weights stored in 16 bits; of several that name one layer the last
            counts.
        mixed: Instead of `weight_bits`: the average width of all weights, for which each layer gets a width
            from 2 to 8 bits by what rounding it alone does to the output.
    """

    bits: int = option(8, help="width of activations", unit="bit", minimum=2, maximum=8)
    weight_bits: int | None = option(
        None, help="width of weights; the same as `bits` if none", unit="bit", minimum=2, maximum=8
    )
    observer: Literal["lsq", "mse", "minmax", "moving-average"] = option(
        "lsq",
        help="how ranges are found: learned, minimum squared error, largest value seen, following the batches",
    )
    per_channel: bool = option(True, help="whether each output channel's weights have their own scale")
    symmetric: bool = option(
        False, help="keep the levels of signed activations symmetric around 0, as TensorRT takes them"
    )
    layers: tuple[LayerBits, ...] = option(
        (), help="widths of single layers' weights, or float, such as [down1:8,head:float16]"
    )
    mixed: float | None = option(
        None, help="average width of weights, assigned by sensitivity", unit="bit", minimum=2, maximum=8
    )

    def __post_init__(self) -> None:
        if self.mixed is not None and self.weight_bits is not None:
            raise UsageError(
                f"qat: mixed={self.mixed:g} assigns the widths of weights, so weight_bits={self.weight_bits} "
                "has no effect.",
                hint="Use one of them; layers=[...] sets single layers in addition to either.",
            )


class Qat(Technique):
    """Train with the rounding of int8 in the forward pass, so that the weights learn to live with it.

    Weights are symmetric per output channel; activations have one scale a tensor, and more levels on the side of 0 on
    which they reach farther. Batch norms are folded,
    transposed convolutions lowered, concatenated tensors share a scale, the network's output stays in float.
    """

    id = "qat"
    summary = "quantization-aware training to int8, learned or observed ranges"
    paper = (
        "Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only "
        "Inference, CVPR 2018; Esser et al., Learned Step Size Quantization, ICLR 2020"
    )
    phase = Phase.NUMERICS
    Config = QatConfig
    conflicts = frozenset({"fixed-point", "ptq"})

    @property
    def precision(self) -> str:
        """Return the widths of activations and weights: ``int8``, ``int8 w4``, ``int8 w4 mixed``."""
        config: QatConfig = self.config
        weights = config.mixed or config.weight_bits or config.bits
        mixed = " mixed" if config.mixed is not None or config.layers else ""
        return f"int{config.bits}" + (f" w{weights:g}{mixed}" if mixed or weights != config.bits else "")

    @property
    def least_weight_bits(self) -> float:
        """Return the width of the narrowest layer that the options allow."""
        config: QatConfig = self.config
        plain = config.bits if config.weight_bits is None else config.weight_bits
        stated = [each.numbers for each in config.layers if isinstance(each.numbers, int)]
        return min([_NARROWEST if config.mixed is not None else plain, *stated])

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Insert fake quantization and set the ranges from the calibration batches."""
        from zoo.modules.output_tree import primary_output
        from zoo.quantization.judged_stages import choose_start
        from zoo.quantization.prepare import QuantizationConfig, calibrate, calibration_batches, prepare
        from zoo_techniques.qat.mixed_precision import assign_widths

        config: QatConfig = self.config
        batches = calibration_batches(context, self.id)
        main = context.architecture.main_output if context.architecture is not None else ""

        def assign(module: fx.GraphModule, layers: Layers) -> dict[str, Numbers]:
            given = resolve_numbers(config.layers, layers, "qat: layers")
            if config.mixed is None:
                return given
            fixed = {path: numbers for path, numbers in given.items() if isinstance(numbers, int)}
            rounded = {path: layer for path, layer in layers.items() if isinstance(given.get(path, 8), int)}
            widths = assign_widths(
                module, rounded, batches, config.mixed, fixed, per_channel=config.per_channel,
                main=partial(primary_output, name=main),
            )  # fmt: skip
            context.report.note(_summary(widths, layers))
            return {**given, **widths}

        weight_bits = config.bits if config.weight_bits is None else config.weight_bits
        quantization = QuantizationConfig(
            config.bits,
            weight_bits,
            config.observer,
            config.per_channel,
            skewed=not config.symmetric,
            assign=assign,
        )
        module = prepare(model, context, quantization, self.id)
        if config.observer == "lsq":
            choose_start(module, batches, context, self.id)
        else:
            calibrate(module, batches)
        return module

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        """Fix the scales and round the weights to their levels."""
        from torch import fx

        from zoo.quantization.prepare import freeze

        assert isinstance(model, fx.GraphModule), "finish() gets what rewrite() gave"
        return freeze(model)


def _summary(widths: dict[str, int], layers: Layers) -> str:
    """The average width and which layers have which, in a line."""
    sizes = {path: layers[path].weight.numel() for path in widths}
    average = sum(widths[path] * size for path, size in sizes.items()) / sum(sizes.values())
    by_width = {
        bits: [path for path in widths if widths[path] == bits]
        for bits in sorted(set(widths.values()), reverse=True)
    }
    shown = "; ".join(f"{bits}: {', '.join(paths)}" for bits, paths in by_width.items())
    return f"qat: weights of {average:.2f} bits on average; {shown}"
