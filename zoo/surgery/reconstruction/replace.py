"""Replacing layers of a trained network by stand-ins that compute nearly the same, layer by layer.

Layers are rewritten in the order in which the network runs them. Each is fitted to what the *original*
network gives at that layer, from what the *rewritten* network feeds into it, so that it also makes good what
the layers before it miss: the asymmetric reconstruction of Zhang et al., "Accelerating Very Deep
Convolutional Networks for Classification and Detection", TPAMI 2016.

On a U-Net trained for seven minutes, all 18 convolutions made depthwise-separable, no training afterwards,
PSNR against the dense network's outputs on unseen pictures: 10.7 dB from the weights alone, 23.4 dB if each
layer is fitted to the dense layer's outputs on its own (already altered) inputs, 33.7 dB as done here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from zoo.contracts import Context
from zoo.errors import ZooError
from zoo.surgery.hooks import detect_external_reads, evaluating, record_inputs, watch
from zoo.surgery.module_tree import replace_module
from zoo.surgery.reconstruction.patches import Layer, channels_of, draw_positions, pixels_at

#: A layer is fitted on at most so many output positions ...
MAX_POSITIONS = 8192
#: ... and of the original network's outputs there at most so many bytes are kept, for all layers together.
MAX_TARGET_BYTES = 256 * 2**20


class LayerReplacement(Protocol):
    """What shall replace one layer, while it is being fitted."""

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Take in an input image (1, in, H, W) and the outputs (positions, out) wanted at flat positions."""

    def build(self) -> tuple[nn.Module, float] | str:
        """The module fitted to what was taken in, if anything was, and its relative error.

        Or the reason why the layer had better stay.
        """


def replace_layers(
    model: nn.Module,
    layers: Mapping[nn.Module, str],
    make_replacement: Callable[[Layer], LayerReplacement],
    batches: Sequence[Tensor],
    context: Context,
    technique: str,
    before_fitting: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> nn.Module:
    """Replace `layers` (with their names) by their stand-ins, fitted on `batches` if there are any.

    before_fitting: changes the network once its outputs have been noted, before any layer is fitted; it must keep
    `layers`.

    A layer that the network does not call as a module, or whose weight it reads besides, stays, and `context` is
    told. Raises ZooError if the network no longer runs afterwards.
    """
    calls: dict[nn.Module, int] = {}  # in order of execution

    def count(module: nn.Module, given: Tensor, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1

    with evaluating(model):
        with detect_external_reads(layers) as read:
            watch(model, layers, context.example_input, count)
        for layer, name in layers.items():
            if layer not in calls:
                context.skip_layer(technique, name, "the network does not call it on the example input")
            elif layer in read:
                context.skip_layer(technique, name, "the network reads its weight past it")
                del calls[layer]
        targets = RecordedOutputs(model, calls, batches, context.seed)
        model = before_fitting(model)
        context.report.start(technique, len(calls))
        replaced: dict[nn.Module, nn.Module] = {}
        for layer, times in calls.items():
            replacement = make_replacement(cast(Layer, layer))
            for index, batch in enumerate(batches):
                # A network that decides by its data may call the layer less often for this batch.
                for inputs, wanted in zip(
                    record_inputs(model, layer, batch, times), targets.of(layer, index), strict=False
                ):
                    for image, (at, rows) in zip(inputs, wanted, strict=True):
                        replacement.observe(image[None], at, rows)
            found = replacement.build()
            if isinstance(found, str):
                context.skip_layer(technique, layers[layer], found)
                context.report.advance(layer=layers[layer])
                continue
            module, error = found
            context.report.advance(layer=layers[layer], error=round(error, 4))
            model = replace_module(model, layer, module)
            replaced[module] = layer
        context.report.finish()
        return _checked(model, replaced, layers, context, technique)


def fitting_batches(context: Context, refine: bool, images: int) -> list[Tensor]:
    """The first `images` calibration pictures, in their batches; none unless `refine`, or where there is no data."""
    kept: list[Tensor] = []
    if not refine or context.calibration is None:
        return kept
    for batch in context.calibration():
        kept.append(batch[:images].detach())
        images -= len(kept[-1])
        if images <= 0:
            break
    return kept


class RecordedOutputs:
    """Outputs of the original network's layers at random positions, from one pass over the batches.

    view: called with a layer and its output, gives what is wanted of it, (N, channels, H', W').
    """

    def __init__(
        self,
        model: nn.Module,
        calls: Mapping[nn.Module, int],
        batches: Sequence[Tensor],
        seed: int,
        view: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        images = sum(len(batch) for batch in batches)
        row_bytes = 4 * sum(channels_of(cast(Layer, layer))[1] for layer in calls)
        positions = min(MAX_POSITIONS, MAX_TARGET_BYTES // max(row_bytes, 1))
        self._kept: dict[tuple[nn.Module, int], list[list[tuple[Tensor, Tensor]]]] = {}
        for index, batch in enumerate(batches):

            def keep(
                module: nn.Module,
                given: Tensor,
                output: Tensor,
                index: int = index,
                batch: Tensor = batch,
            ) -> None:
                output = output if view is None else view(module, output)
                # Some networks cut their pictures into windows, which follow one another in the batch.
                share = positions * len(batch) // (images * calls[module] * len(output))
                drawn = [draw_positions(output.shape[-2:], max(1, share), generator) for _ in output]
                rows = [
                    (at, pixels_at(image, at).float().cpu()) for at, image in zip(drawn, output, strict=True)
                ]
                self._kept.setdefault((module, index), []).append(rows)

            watch(model, calls, batch, keep)

    def of(self, module: nn.Module, batch: int) -> list[list[tuple[Tensor, Tensor]]]:
        """For each call and each image: flat positions, and the outputs (positions, out) there."""
        return self._kept.get((module, batch), [])


def _checked(
    model: nn.Module,
    replaced: Mapping[nn.Module, nn.Module],
    layers: Mapping[nn.Module, str],
    context: Context,
    technique: str,
) -> nn.Module:
    """Run the rewritten network once; put back what it does not call, since then it reaches the old layer."""
    called: set[nn.Module] = set()
    try:
        watch(model, replaced, context.example_input, lambda module, given, output: called.add(module))
    except Exception as error:
        raise ZooError(
            f"After {technique} the network no longer runs: {type(error).__name__}: {error}",
            hint="Its code reaches into a layer that was replaced; "
            "leave such layers out with the options of the technique.",
        ) from error
    for module, layer in replaced.items():
        if module not in called:
            model = replace_module(model, module, layer)
            context.skip_layer(technique, layers[layer], "the network reaches it past its registered name")
    return model
