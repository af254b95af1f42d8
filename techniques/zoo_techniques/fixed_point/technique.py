"""Fixed-point weights and activations, binary and ternary weights: few bits, packed in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.errors import UsageError
from zoo.options import CustomOption, option

if TYPE_CHECKING:
    from torch import fx, nn

    from zoo.quantization.fake_quant import FakeQuantize
    from zoo.quantization.prepare import Layers

_FORMAT = re.compile(r"([0-9])\.([0-9])", re.ASCII)
_LEAST_BITS, _MOST_BITS = 2, 8
#: What int8 holds with a sign in addition to the bits, and the fraction that may round up to 1.
_MOST_PAPER_BITS = 6


@dataclass(frozen=True)
class FixedFormat(CustomOption):
    """`ibits` bits before the point and `fbits` after it, written ``0.4``.

    Raises:
        UsageError: They are not 2 to 8 bits.
    """

    form = "i.f"
    expected = "bits before and after the point, 2 to 8 in all, such as 0.4"

    ibits: int
    fbits: int

    def __post_init__(self) -> None:
        if not _LEAST_BITS <= self.bits <= _MOST_BITS or min(self.ibits, self.fbits) < 0:
            raise UsageError(
                f"The format {self} has {self.bits} bits; it must have {_LEAST_BITS} to {_MOST_BITS}."
            )

    @property
    def bits(self) -> int:
        """Return the total number of bits."""
        return self.ibits + self.fbits

    @classmethod
    def read(cls, text: str) -> FixedFormat:
        """Read ``0.4``: one digit on each side of the point. ``0.10`` would be ten bits after it."""
        found = _FORMAT.fullmatch(text)
        if not found:
            raise ValueError(f"{text} is not a format")
        try:
            return cls(int(found[1]), int(found[2]))
        except UsageError as error:
            raise ValueError(error.message) from error

    def __str__(self) -> str:
        return f"{self.ibits}.{self.fbits}"


_WEIGHTS, _ACTIVATIONS = FixedFormat(0, 4), FixedFormat(6, 0)


@dataclass(frozen=True)
class FixedPointConfig:
    """Options of `fixed-point`.

    Attributes:
        w: Format of weights, i bits before the point and f after it; `binary` (a * sign(w)) or `ternary`.
        a: Format of activations; `none` leaves them in float.
        mode: `saturate` rounds to the nearest number there is, in two's complement, the sign being one of
            the i + f bits (activations that cannot be negative have none); `paper` computes the published
            formula, with the sign in addition to the bits, where numbers beyond the range wrap or lose their fraction.
        scale: What multiplies the numbers: `free`, one learned for each output channel of weights and each
            group of activations (as the paper's batch norms do); `shift`, a power of two for each layer;
            `one`, nothing.
        keep: What stays in float: `first` block, `last` layer, names of layers or modules, patterns of
            them.
    """

    w: FixedFormat | Literal["binary", "ternary"] = option(  # noqa: RUF009
        _WEIGHTS, help="format of weights", unit="bit"
    )
    a: FixedFormat | None = option(  # noqa: RUF009
        _ACTIVATIONS, help="format of activations; none for float", unit="bit"
    )
    mode: Literal["saturate", "paper"] = option(
        "saturate", help="whether numbers out of range saturate, or wrap and lose their fraction as published"
    )
    scale: Literal["free", "shift", "one"] = option(
        "free", help="factor of the numbers: anything learned, a power of two, or none"
    )
    keep: tuple[str, ...] = option(
        ("first", "last"), help="what stays in float: first block, last layer, names or patterns"
    )

    def __post_init__(self) -> None:
        for name, value in (("w", self.w), ("a", self.a)):
            if self.mode == "paper" and isinstance(value, FixedFormat) and value.bits > _MOST_PAPER_BITS:
                raise UsageError(
                    f"fixed-point: {name}={value} in mode=paper needs {value.bits} bits, a sign and one more level "
                    "than int8 has room for.",
                    hint=f"Use at most {_MOST_PAPER_BITS} bits, or mode=saturate.",
                )


class FixedPoint(Technique):
    """Train with fixed-point weights and activations; store the weights in as few bits as they have.

    Each quantized layer's weights are numbers of the format `w` and its input is numbers of the format `a`,
    with biases in float. Batch norms are folded first: their scale is what multiplies the weights.
    """

    id = "fixed-point"
    summary = "fixed-point, ternary or binary weights and fixed-point activations, packed on disk"
    paper = (
        "AskariHemmat et al., U-Net Fixed-Point Quantization for Medical Image Segmentation, MICCAI Workshops 2019; "
        "Rastegari et al., XNOR-Net, ECCV 2016; Li et al., Ternary Weight Networks, 2016"
    )
    phase = Phase.NUMERICS
    Config = FixedPointConfig
    conflicts = frozenset({"ptq", "qat"})

    @property
    def precision(self) -> str:
        """Return the name of the number format for the manifest: ``fixed-point w0.4 a6.0``."""
        return f"fixed-point w{self.config.w} a{self.config.a or 'float'}"

    @property
    def least_weight_bits(self) -> float:
        """Return the width of the format of weights; what stays in float has more."""
        w: FixedFormat | Literal["binary", "ternary"] = self.config.w
        return w.bits if isinstance(w, FixedFormat) else 1 if w == "binary" else 2

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Insert the quantizers, set the scales from the calibration batches, and correct the biases."""
        from functools import partial

        from zoo.quantization.bias import correct_biases
        from zoo.quantization.judged_stages import choose_start
        from zoo.quantization.prepare import calibrate, calibration_batches, prepare

        scheme = _Scheme(self.config, context)
        module = prepare(model, context, scheme, self.id)
        batches = calibration_batches(context, self.id)
        if scheme.learns:
            choose_start(module, batches, context, self.id)
            return module
        if not scheme.weights_only:
            calibrate(module, batches)
        correct_biases(module, batches, partial(context.skip_layer, self.id))
        return module

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        """Fix the scales and round the weights to their levels."""
        from torch import fx

        from zoo.quantization.prepare import freeze

        assert isinstance(model, fx.GraphModule), "finish() gets what rewrite() gave"
        return freeze(model)


class _Scheme:
    """The quantizers that the options ask for."""

    def __init__(self, config: FixedPointConfig, context: Context) -> None:
        self._config, self._context = config, context

    @property
    def weights_only(self) -> bool:
        return self._config.a is None

    @property
    def learns(self) -> bool:
        """Return whether all scales can be anything, and are learned."""
        config = self._config
        plain = config.a is not None and isinstance(config.w, FixedFormat)
        return plain and config.scale == "free" and config.mode == "saturate"

    @property
    def float_inputs(self) -> bool:
        return False

    def activation(self, *, nonnegative: bool) -> FakeQuantize:
        from zoo.quantization.fixed_point import FixedPointQuantizer as Quantizer

        config = self._config
        assert config.a is not None, "asked for only if activations are quantized"
        return Quantizer(config.a.ibits, config.a.fbits, config.mode, config.scale, nonnegative=nonnegative)

    def weights(self, module: fx.GraphModule, layers: Layers) -> Mapping[str, FakeQuantize | None]:
        kept = self._kept(module, layers)
        return {
            path: None if path in kept else self._weight(layer.weight.shape[0])
            for path, layer in layers.items()
        }

    def _weight(self, channels: int) -> FakeQuantize:
        from zoo.quantization.fixed_point import BinaryQuantizer, TernaryQuantizer
        from zoo.quantization.fixed_point import FixedPointQuantizer as Quantizer

        config = self._config
        if isinstance(config.w, FixedFormat):
            return Quantizer(
                config.w.ibits, config.w.fbits, config.mode, config.scale, weight=True, channels=channels
            )
        return {"binary": BinaryQuantizer, "ternary": TernaryQuantizer}[config.w](
            config.scale, channels=channels
        )

    def _kept(self, module: fx.GraphModule, layers: Layers) -> set[str]:
        from zoo.quantization.patterns import first_block, last_layers, matching

        kept: set[str] = set()
        for name in self._config.keep if layers else ():
            if name == "first":
                kept.update(first_block(layers, self._context.architecture))
            elif name == "last":
                kept.update(last_layers(module, layers))
            else:
                kept.update(matching(name, layers, "fixed-point: keep"))
        return kept
