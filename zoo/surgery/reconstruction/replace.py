"""Replacing layers of a trained network by smaller ones that compute nearly the same, layer by layer.

Layers are replaced in the order in which the network runs them. Each replacement is fitted to the outputs that the
*original* network has at that layer, from the inputs that the *rewritten* network feeds into it, so that it also
corrects the errors of the layers before it: the asymmetric reconstruction of Zhang et al., "Accelerating Very Deep
Convolutional Networks for Classification and Detection", TPAMI 2016.

On a U-Net trained for seven minutes, all 18 convolutions made depthwise-separable, no training afterwards, PSNR
against the dense network's outputs on unseen images: 10.7 dB from the weights alone, 23.4 dB if each layer is fitted
to the dense layer's outputs on its own (already altered) inputs, 33.7 dB as done here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from zoo.contracts import Context
from zoo.errors import ZooError
from zoo.surgery.hooks import detect_external_reads, evaluating, on_device_of, record_inputs, watch
from zoo.surgery.module_tree import replace_module
from zoo.surgery.reconstruction.patches import Layer, channels_of, draw_positions, pixels_at
from zoo.surgery.tracer import place_of

#: A layer is fitted on at most this many output positions ...
_MAX_POSITIONS = 8192
#: ... and of the original network's outputs there at most this many bytes are kept, for all layers together.
_MAX_TARGET_BYTES = 256 * 2**20


class LayerReplacement(Protocol):
    """What replaces one layer: it observes the layer's inputs and wanted outputs, then builds the replacement."""

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Add the data of one input image.

        Args:
            image: An input of the layer, (1, in, H, W).
            at: (positions,) flat indices into the layer's output.
            targets: (positions, out) outputs wanted there; None for those of the layer itself on `image`.
        """

    def build(self) -> tuple[nn.Module, float] | str:
        """Return the module fitted to the data observed, if any was, and its relative error.

        Or return the reason why the layer should stay.
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
    """Replace layers by fitted modules, in the order in which the network runs them.

    A layer stays, and is reported to `context`, if the network does not call it as a module, if other code reads its
    weight, if it is called with more than its input, or if its replacement says why it should. Progress goes to
    ``context.report``.

    Args:
        model: The network, changed in place.
        layers: The layers to replace, with their names for reports.
        make_replacement: Called with a layer, returns what is to replace it.
        batches: Inputs to fit on, (N, C, H, W) each; without any, replacements are built without data.
        context: Provides the example input and the seed, and receives the layers that stay.
        technique: id of the technique, for reports.
        before_fitting: Changes the network after its outputs were recorded and before any layer is fitted; it must
            keep `layers`.

    Returns:
        The network.

    Raises:
        ZooError: The network no longer runs afterwards.
    """
    calls: dict[nn.Module, int] = {}  # in order of execution

    def count(module: nn.Module, given: Tensor, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1

    more: set[nn.Module] = set()

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(args) + len(kwargs) > 1:
            more.add(module)

    with evaluating(model):
        with detect_external_reads(layers) as read:
            # Without hooks: torch's transformer layers do not read weights while there are any.
            model(on_device_of(model, context.example_input))
        handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
        watch(model, layers, context.example_input, count)
        for handle in handles:
            handle.remove()
        for layer, name in layers.items():
            if layer not in calls:
                context.skip_layer(technique, name, "the network does not call it on the example input")
            elif layer in read:
                context.skip_layer(technique, name, "the network reads its weight past it")
                del calls[layer]
            elif layer in more:
                context.skip_layer(technique, name, "the network calls it with more than its input")
                del calls[layer]
        targets = RecordedOutputs(model, calls, batches, context.seed)
        model = before_fitting(model)
        context.report.start(technique, len(calls))
        replaced: dict[nn.Module, nn.Module] = {}
        for layer, times in calls.items():
            replacement = make_replacement(cast(Layer, layer))
            for index, batch in enumerate(batches):
                with _explained(technique):
                    given = record_inputs(model, layer, batch, times)
                # A network that decides by its data may call the layer less often for this batch.
                for inputs, wanted in zip(given, targets.of(layer, index), strict=False):
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
        return _check(model, replaced, layers, context, technique)


def fitting_batches(context: Context, refine: bool, images: int | None) -> list[Tensor]:
    """Return the first calibration images, in their batches, (N, C, H, W) each.

    Args:
        context: Provides the calibration data.
        refine: The technique's option of this name; False returns no batches.
        images: How many images to return; None for :attr:`zoo.contracts.Context.fitting_images`.

    Returns:
        The batches; none if there is no calibration data.
    """
    kept: list[Tensor] = []
    if not refine or context.calibration is None:
        return kept
    images = context.fitting_images if images is None else images
    batches = context.calibration_images(images) if context.calibration_images else context.calibration()
    for batch in batches:
        kept.append(batch[:images].detach())
        images -= len(kept[-1])
        if images <= 0:
            break
    return kept


class RecordedOutputs:
    """Outputs of the original network's layers at random positions, recorded in one pass over some batches.

    Args:
        model: The original network, in eval mode.
        calls: The layers, with how often the network calls each.
        batches: (N, C, H, W) each.
        seed: Positions are drawn with it.
        view: Called with a layer and its output (N, C, H', W'); returns what is recorded instead, of the same form.
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
        positions = min(_MAX_POSITIONS, _MAX_TARGET_BYTES // max(row_bytes, 1))
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
        """Return what was recorded of a layer on a batch.

        Args:
            module: The layer.
            batch: The number of the batch.

        Returns:
            For each call and each image: flat positions (positions,), and the outputs there, (positions, out).
        """
        return self._kept.get((module, batch), [])


def _check(
    model: nn.Module,
    replaced: Mapping[nn.Module, nn.Module],
    layers: Mapping[nn.Module, str],
    context: Context,
    technique: str,
) -> nn.Module:
    """Run the rewritten network once; put back what it does not call, since then it reaches the old layer."""
    called: set[nn.Module] = set()
    with _explained(technique):
        watch(model, replaced, context.example_input, lambda module, given, output: called.add(module))
    for module, layer in replaced.items():
        if module not in called:
            model = replace_module(model, module, layer)
            context.skip_layer(technique, layers[layer], "the network reaches it past its registered name")
    return model


@contextmanager
def _explained(technique: str) -> Iterator[None]:
    """Running the network after layers were replaced."""
    try:
        yield
    except Exception as error:
        place = place_of(error)
        raise ZooError(
            f"After {technique} the network no longer runs{f' ({place})' if place else ''}: "
            f"{type(error).__name__}: {error}",
            hint="Its code reaches into a layer that was replaced, past calling it; compute there with the layer's "
            "result, or leave such layers out with the options of the technique.",
        ) from error
