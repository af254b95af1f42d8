"""Ranges and biases chosen without training; changes are kept only where the output comes closer to the float one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, fx, nn

from zoo.contracts import Context
from zoo.modules.output_tree import primary_output
from zoo.quantization.bias import Moments, correct_biases, moments_without_rounding
from zoo.quantization.equalization import equalize, find_pairs
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.observers import Observer
from zoo.quantization.output_deviation import OutputDeviation, busiest_windows, first_images
from zoo.quantization.prepare import calibrate
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear
from zoo.quantization.range_search import search_ranges, set_uniform_ranges


class JudgedStages:
    """Changes of one network, each tried, measured and reported.

    Args:
        module: The network in eval mode, calibrated unless its ranges are chosen here.
        batches: (N, C, H, W) each, that it was calibrated on.
        context: Knows what the network's output is; is told what each stage won.
        technique: id of the technique, for reports.

    Attributes:
        module, batches: As they were given.
        skip_layer: Reports a layer that a stage leaves alone, with the reason.
        judged: The images that the output is judged on, (N, C, H, W) each.
        output: Measures the error of the output.
    """

    def __init__(
        self, module: fx.GraphModule, batches: Sequence[Tensor], context: Context, technique: str
    ) -> None:
        self.module, self.batches, self._report, self._id = module, batches, context.report, technique
        self.skip_layer = partial(context.skip_layer, technique)
        architecture = context.architecture
        dense = architecture is not None and architecture.output.dense
        self._windows = busiest_windows(batches, architecture.input) if dense else list(batches)
        self.judged = first_images(self._windows)
        self.output = OutputDeviation(
            module,
            self.judged,
            classifies=architecture is not None and architecture.output.kind == "logits",
            main=partial(primary_output, name=architecture.main_output if architecture is not None else ""),
        )
        self._error: float | None = None
        self._moments: dict[str, Moments] | None = None

    def equalize(self) -> bool:
        """Balance channels between layers, judged with one observer for all tensors, which they have afterwards."""
        count = len(list(find_pairs(self.module)))
        if not count:
            return False
        calibrate(self.module, self.judged)

        def change() -> str:
            equalize(self.module, self.batches)
            calibrate(self.module, self.judged)
            return f"equalizing the channels of {count} pair{'s' if count > 1 else ''} of layers"

        return self.attempt(change, lambda: set_uniform_ranges(self.module, self.output))

    def choose_ranges(self, *, weights: bool) -> None:
        """Calibrate the network, and choose the ranges of activations by tensor, and of weights by channel."""
        calibrate(self.module, self.batches)
        images = sum(map(len, self.judged))
        self._report.start(f"{self._id}: try ranges", images, "images")
        try:
            chosen = search_ranges(
                self.module, self.judged, self.output, weights=weights, seen=self._report.advance
            )
        finally:
            self._report.finish()
        self._error = chosen.error
        self._report.note(f"{self._id}: {chosen}")

    def correct_biases(self, *, deviations: bool) -> bool:
        """Restore the means of channels, or means and deviations."""
        wanted = self.note_moments()

        def change() -> str:
            correct_biases(self.module, self._windows, self.skip_layer, deviations=deviations, wanted=wanted)
            return (
                "restoring deviations as batch norms estimated again" if deviations else "correcting biases"
            )

        return self.attempt(change)

    def note_moments(self) -> dict[str, Moments]:
        """Return the moments of layers' outputs before weights and biases are changed for the sake of rounding."""
        if self._moments is None:
            self._moments = moments_without_rounding(self.module, self._windows)
        return self._moments

    def attempt(self, change: Callable[[], str], measure: Callable[[], float] | None = None) -> bool:
        """Change the network, and change it back unless the error is less than before; whether the change was kept.

        With `measure`, which may set ranges, the error is measured before, too.
        """
        before = measure() if measure is not None else self._error
        measure = measure or self.output.measure
        before = measure() if before is None else before
        state = _State(self.module)
        done = change()
        after = measure()
        kept = after < before
        self._error = after if kept else before
        if not kept:
            state.restore()
        won = (
            f"{100 * (1 - after / before):.0f} % (error of the output {before:.3g}, then {after:.3g})"
            if kept
            else "nothing, and is left out"
        )
        self._report.note(f"{self._id}: {done} wins {won}")
        return kept


def choose_start(module: fx.GraphModule, batches: Sequence[Tensor], context: Context, technique: str) -> None:
    """Choose what a training with learned ranges starts from: it does not get away from worse ones in a short time.

    Args:
        module: From :func:`zoo.quantization.prepare.prepare`, not calibrated; changed in place.
        batches: (N, C, H, W) each.
        context: See :class:`JudgedStages`.
        technique: id of the technique, for reports.
    """
    was_training = module.training
    module.eval()
    stages = JudgedStages(module, batches, context, technique)
    stages.equalize()
    stages.choose_ranges(weights=True)
    stages.correct_biases(deviations=False)
    stages.correct_biases(deviations=True)
    module.train(was_training)


class _State:
    """Weights, biases and ranges of a network as they are."""

    def __init__(self, module: nn.Module) -> None:
        layers = [each for each in module.modules() if isinstance(each, (QuantConv2d, QuantLinear))]
        quantizers = [each for each in module.modules() if isinstance(each, FakeQuantize)]
        self._weights = [(layer.weight, _copy(layer.weight)) for layer in layers]
        self._biases = [
            (layer, layer.bias, None if layer.bias is None else _copy(layer.bias)) for layer in layers
        ]
        self._ranges: list[tuple[FakeQuantize, Tensor, dict[Observer, float]]] = [
            (quantizer, _copy(quantizer.log_scale), dict(quantizer.candidates)) for quantizer in quantizers
        ]

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for weight, value in self._weights:
                weight.copy_(value)
            for layer, bias, old in self._biases:
                layer.bias = bias
                if bias is not None and old is not None:
                    bias.copy_(old)
            for quantizer, log_scale, candidates in self._ranges:
                quantizer.log_scale.copy_(log_scale)
                quantizer.candidates = candidates


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()
