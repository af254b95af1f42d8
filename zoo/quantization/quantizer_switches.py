"""Switching quantizers off and on, to see what the rounding of single tensors and layers does to a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from torch import fx, nn

from zoo.quantization.dynamic import DynamicConv2d, DynamicLinear, DynamicRound
from zoo.quantization.fake_quant import FakeQuantize, Requantize
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear

Quantizer = FakeQuantize | DynamicRound


@dataclass(frozen=True)
class LayerQuantizers:
    """What is rounded for one layer.

    Attributes:
        weight: Rounds its weights.
        inputs: Round what it computes with; other layers may use the same tensors.
    """

    weight: FakeQuantize
    inputs: tuple[Quantizer, ...]

    @property
    def all(self) -> tuple[Quantizer, ...]:
        """Return both."""
        return (self.weight, *self.inputs)


def quantizers_of(module: nn.Module) -> dict[str, Quantizer]:
    """Return the quantizers of weights and activations by path."""
    return {
        path: each for path, each in module.named_modules() if isinstance(each, (FakeQuantize, DynamicRound))
    }


def layer_quantizers(module: fx.GraphModule) -> dict[str, LayerQuantizers]:
    """Return the quantizers of each layer with quantized weights, by path, in the order in which the layers run."""
    found: dict[str, LayerQuantizers] = {}
    for node in module.graph.nodes:
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(layer, (QuantConv2d, QuantLinear)) or str(node.target) in found:
            continue
        if isinstance(layer, (DynamicConv2d, DynamicLinear)):
            inputs: tuple[Quantizer, ...] = (layer.input_quantizer,)
        else:
            inputs = tuple(dict.fromkeys(_behind(node, module)))
        found[str(node.target)] = LayerQuantizers(layer.weight_quantizer, inputs)
    return found


def _behind(node: fx.Node, module: fx.GraphModule) -> Iterator[FakeQuantize]:
    """The nearest quantizers that the inputs of a node come through."""
    for source in node.all_input_nodes:
        child = module.get_submodule(str(source.target)) if source.op == "call_module" else None
        if isinstance(child, FakeQuantize):
            yield child
        elif isinstance(child, Requantize):
            yield child.owner
        elif not isinstance(child, (QuantConv2d, QuantLinear)):
            yield from _behind(source, module)


@contextmanager
def switched_off(quantizers: Iterable[Quantizer]) -> Iterator[None]:
    """Let values pass these quantizers as they are while the body runs."""
    modes = {each: each.mode for each in quantizers}
    for quantizer in modes:
        quantizer.mode = "off"
    try:
        yield
    finally:
        for quantizer, mode in modes.items():
            quantizer.mode = mode


@contextmanager
def all_off_but(module: nn.Module, kept: Iterable[Quantizer]) -> Iterator[None]:
    """Let values pass all quantizers of a network except these as they are while the body runs."""
    kept = set(kept)
    with switched_off(each for each in quantizers_of(module).values() if each not in kept):
        yield


def rounding_off(module: nn.Module) -> AbstractContextManager[None]:
    """Let values pass all quantizers of a network, those of weights included, as they are while the body runs."""
    return all_off_but(module, ())


def layer_errors(module: fx.GraphModule, measure: Callable[[], float]) -> dict[str, float]:
    """Return what the rounding of each layer alone does to the network's output, by path, the worst layer first.

    Every other layer computes in float: where several layers spoil the output, switching off only one of them
    would not show in it.

    Args:
        module: A calibrated network in eval mode whose weights are not rounded yet; left as it was.
        measure: Returns the deviation of the output of that network as it is at the moment.
    """
    errors: dict[str, float] = {}
    for path, quantizers in layer_quantizers(module).items():
        with all_off_but(module, quantizers.all):
            errors[path] = measure()
    return dict(sorted(errors.items(), key=lambda each: each[1], reverse=True))
