"""From a float network to one that trains with int8 rounding, and from there to frozen scales."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, fx, nn

from zoo.contracts import Context
from zoo.errors import ZooError
from zoo.quantization.activation_lowering import lower_activations
from zoo.quantization.direct_layers import direct_layers
from zoo.quantization.fake_quant import FakeQuantize, Requantize
from zoo.quantization.fold import SkipLayer, fold_batch_norms
from zoo.quantization.infinite_values import masked_nodes
from zoo.quantization.layer_numbers import Floats, Numbers
from zoo.quantization.lowering import lower_operators
from zoo.quantization.observers import PERCENTILE, Observer
from zoo.quantization.placement import place_quantizers
from zoo.quantization.quantized_layers import (
    Float16Conv2d,
    Float16Linear,
    QuantConv2d,
    QuantLinear,
    round_to_float16,
)
from zoo.quantization.quantizer_switches import rounding_off
from zoo.quantization.separate_uses import separate_uses
from zoo.surgery import propagate_shapes, replace_named, trace
from zoo.surgery.agreement import Reference
from zoo.surgery.plain_layers import is_plain

Layers = Mapping[str, nn.Conv2d | nn.Linear]

_DIRECT = "passes the network's input on to its output, where 8 bits would show"


class Scheme(Protocol):
    """Which quantizers a network gets."""

    @property
    def weights_only(self) -> bool:
        """Return whether all activations stay in float."""

    @property
    def float_inputs(self) -> bool:
        """Return whether layers that stay in float take inputs that are not rounded either."""

    def activation(self, *, nonnegative: bool) -> FakeQuantize:
        """Return a quantizer for the activations that share one scale.

        Args:
            nonnegative: Whether none of them can be less than 0.
        """

    def weights(self, module: fx.GraphModule, layers: Layers) -> Mapping[str, FakeQuantize | Floats | None]:
        """Return the quantizers of the weights of `layers`, by path.

        None and "float" are for a layer that stays in float, "float16" for one whose weights are stored in 16 bits.
        """


@dataclass(frozen=True)
class QuantizationConfig:
    """How weights and activations are rounded to integers.

    Attributes:
        bits: Of activations, 2 to 8.
        weight_bits: Of weights, 2 to 8.
        observer: How scales are found.
        per_channel: Whether each output channel's weights have their own scale.
        weight_observer: How scales of weights are found, if otherwise.
        percentile: For the observer of that name, in per cent.
        skewed: Whether activations that reach farther to one side of 0 have more levels there.
        assign: Returns what the weights of single layers, by path, have instead of `weight_bits`.
    """

    bits: int = 8
    weight_bits: int = 8
    observer: Observer = "lsq"
    per_channel: bool = True
    weight_observer: Observer | None = None
    percentile: float = PERCENTILE
    skewed: bool = True
    assign: Callable[[fx.GraphModule, Layers], Mapping[str, Numbers]] | None = None

    @property
    def weights_only(self) -> bool:
        """Return False: activations are rounded too."""
        return False

    @property
    def float_inputs(self) -> bool:
        """Return True."""
        return True

    def activation(self, *, nonnegative: bool) -> FakeQuantize:
        """Return a quantizer of `bits`."""
        quantizer = FakeQuantize(self.bits, self.observer, nonnegative=nonnegative, skewed=self.skewed)
        quantizer.percentile = self.percentile
        return quantizer

    def weights(self, module: fx.GraphModule, layers: Layers) -> dict[str, FakeQuantize | Floats | None]:
        """Return quantizers of the widths that the layers have; those of a way past the network stay in float."""
        assigned: dict[str, Numbers] = dict.fromkeys(direct_layers(module, layers), "float")
        assigned |= self.assign(module, layers) if self.assign is not None else {}
        return {
            path: FakeQuantize(
                numbers,
                self.weight_observer or self.observer,
                weight=True,
                channels=layer.weight.shape[0] if self.per_channel else None,
            )
            if isinstance(numbers := assigned.get(path, self.weight_bits), int)
            else numbers
            for path, layer in layers.items()
        }


def prepare(
    model: nn.Module, context: Context, scheme: Scheme | None = None, technique: str = "qat"
) -> fx.GraphModule:
    """Return a graph of a network with batch norms folded, operators lowered and quantizers inserted.

    The graph takes over the network's parameters under their names. Scales are not set yet: call :func:`calibrate`,
    or load a state dict.

    Args:
        model: The network.
        context: Provides the example input; receives the layers that stay in float.
        scheme: Which quantizers to insert; by default those of `qat`.
        technique: id of the technique, for reports.

    Raises:
        ZooError: torch.fx cannot trace the network, or nothing in it can be quantized.
    """
    scheme = scheme or QuantizationConfig()
    skip_layer = partial(context.skip_layer, technique)
    module = quantize_weights(model, context, scheme, skip_layer, lowers_activations=not scheme.weights_only)
    if not scheme.weights_only:
        with rounding_off(module):
            reference = Reference(module, context.example_input)
        in_float = {
            path
            for path, layer in weighted_layers(module).items()
            if scheme.float_inputs and not isinstance(layer, (QuantConv2d, QuantLinear))
        }
        with rounding_off(module):
            unrounded = masked_nodes(module, context.example_input)
        place_quantizers(module, scheme.activation, skip_layer, in_float, unrounded)
        with rounding_off(module):
            reference.check(module, "Placing quantizers, all of them switched off,")
    parameter = next(module.parameters())
    return module.to(parameter.device)


def quantize_weights(
    model: nn.Module,
    context: Context,
    scheme: Scheme,
    skip_layer: SkipLayer,
    *,
    lowers_activations: bool = False,
) -> fx.GraphModule:
    """Return the result of the first half of :func:`prepare`: everything except the quantizers of activations.

    With `lowers_activations`, hard-swish and the like are rewritten for activations that will be rounded.
    """
    module = trace(model, context.example_input)
    for remark in separate_uses(module):
        context.report.note(f"Quantization: {remark}.")
    reference = Reference(module, context.example_input)
    fold_batch_norms(module, skip_layer)
    reference.check(module, "Folding batch norms")
    propagate_shapes(module, context.example_input)
    lower_operators(module, skip_layer)
    if lowers_activations and isinstance(scheme, QuantizationConfig):
        propagate_shapes(module, context.example_input)
        lower_activations(module, per_channel=scheme.per_channel)
    reference.check(module, "Lowering operators to those that engines compute in int8")
    if not _quantize_weights(module, scheme, skip_layer):
        kept = "; every layer stays in float, as the options say" if weighted_layers(module) else ""
        raise ZooError(f"{type(model).__name__} has no convolution or linear layer to quantize{kept}.")
    with rounding_off(module):
        reference.check(module, "Giving layers quantized weights, all of them switched off,")
    propagate_shapes(module, context.example_input)
    return module


def weighted_layers(module: fx.GraphModule) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the layers whose weights can be quantized, by path, in the order in which the network first runs them."""
    layers: dict[str, nn.Conv2d | nn.Linear] = {}
    for node in module.graph.nodes:
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and is_plain(layer):
            layers[str(node.target)] = layer
    return layers


def _quantize_weights(module: fx.GraphModule, scheme: Scheme, skip_layer: SkipLayer) -> int:
    layers = weighted_layers(module)
    direct = direct_layers(module, layers)
    count = 0
    for path, quantizer in scheme.weights(module, layers).items():
        layer = layers[path]
        if not isinstance(quantizer, FakeQuantize):
            if quantizer == "float16":
                stored = Float16Conv2d.of(layer) if isinstance(layer, nn.Conv2d) else Float16Linear.of(layer)
                replace_named(module, path, stored)
            skip_layer(path, _DIRECT if path in direct else "stays in float, as the options say")
            continue
        quantizer = quantizer.to(layer.weight.device)
        quantizer.observe_weight(layer.weight)
        of = QuantConv2d.of if isinstance(layer, nn.Conv2d) else QuantLinear.of
        replace_named(module, path, of(layer, quantizer))  # type: ignore[arg-type]
        count += 1
    return count


def calibration_batches(context: Context, technique: str, what: str = "ranges") -> list[Tensor]:
    """Return the batches to set `what` from, (N, C, H, W) each; without data, the example input, with a note."""
    if context.calibration is not None:
        return list(context.calibration())
    context.report.note(f"{technique}: no calibration data; the {what} come from the one example input")
    return [context.example_input]


def calibrate(module: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the activations' scales from what the float network computes on some batches.

    Args:
        module: From :func:`prepare`.
        batches: (N, C, H, W) each.

    Returns:
        The number of batches.

    Raises:
        ZooError: There are no batches.
    """
    quantizers = {path: m for path, m in module.named_modules() if isinstance(m, FakeQuantize)}
    activations = {path: q for path, q in quantizers.items() if not q.weight}
    parameter = next(module.parameters())
    was_training = module.training
    module.eval()
    for quantizer in quantizers.values():
        quantizer.mode = "off"
    for quantizer in activations.values():
        quantizer.start_observing()
    count = 0
    try:
        with torch.no_grad():
            for batch in batches:
                module(batch.to(parameter.device))
                count += 1
    finally:
        unseen = [path for path, quantizer in activations.items() if not quantizer.has_observed]
        for quantizer in quantizers.values():
            quantizer.mode = "quantize"
        for quantizer in activations.values():
            quantizer.stop_observing()
        module.train(was_training)
    if not count:
        raise ZooError("There are no calibration batches to set the ranges of the activations from.")
    if unseen:
        tensor = unseen[0].rpartition(".")[2]
        raise ZooError(
            f"No calibration data reached the quantizer of '{tensor}', so its range is unknown.",
            hint="This is a mistake in zoo; report it with the network's code around that tensor.",
        )
    return count


def freeze(module: fx.GraphModule) -> fx.GraphModule:
    """Fix every scale, and round the weights to their levels and the biases to those that engines have, in place.

    Engines keep biases in int32, in steps of input scale * weight scale. A weight's scale so small that the
    bias would not fit is raised until it does. Few bits make those steps coarse, so that the rounding belongs
    into the network, where it is seen, and not into each engine.
    """
    inputs = dict(_input_scales(module))
    for layer in module.modules():
        if isinstance(layer, (Float16Conv2d, Float16Linear)):
            round_to_float16(layer)
        if not isinstance(layer, (QuantConv2d, QuantLinear)):
            continue
        quantizer, input_scale = layer.weight_quantizer, inputs.get(layer)
        with torch.no_grad():
            if input_scale is not None:
                quantizer.make_room(layer.bias, input_scale)
            layer.weight.copy_(quantizer.eval()(layer.weight))
            quantizer.freeze()
            if input_scale is not None and layer.bias is not None:
                step = input_scale * quantizer.scale
                layer.bias.copy_((layer.bias / step).round() * step)
    for other in module.modules():
        if isinstance(other, FakeQuantize):
            other.freeze()
    return module


def _input_scales(module: fx.GraphModule) -> Iterator[tuple[nn.Module, Tensor]]:
    """The layers whose input is quantized, with its scale."""
    for node in module.graph.nodes:
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, (QuantConv2d, QuantLinear)):
            source = node.args[0]
            before = module.get_submodule(str(source.target)) if source.op == "call_module" else None
            owner = before.owner if isinstance(before, Requantize) else before
            if isinstance(owner, FakeQuantize):
                yield layer, owner.scale.detach()
