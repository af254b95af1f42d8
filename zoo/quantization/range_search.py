"""Ranges chosen by the error that rounding causes further on, for each tensor among those that observers propose.

No observer suits every tensor: what a range cuts off matters where the layers behind it rely on large values, and the
length of a step matters elsewhere. So each candidate is tried, alone, and judged by the results of the layers behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.modules.output_tree import primary_output
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.observers import TINY, Observer
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear
from zoo.quantization.quantizer_switches import rounding_off
from zoo.quantization.ranges import best_channel_ranges, channel_maxima

#: Weighted layers behind a tensor whose results are compared: those of a residual block.
_DEPTH = 2
#: Numbers in the inputs that ranges are chosen on, and in those that pass the network at once.
_MOST, _AT_ONCE = 1 << 22, 1 << 19
#: Other images than those of the calibration may hold more of what is cut off, so ranges narrower than all that was
#: seen must leave at most this share of the error, and of no image more than so many times its error.
_WORTH, _WORSE = 0.6, 2.0
#: Ranges of weights that are tried, as shares of each channel's largest magnitude, beside that of least squared error.
_SHARES = (1.0, 0.85, 0.7)


class OutputDeviation:
    """How far the output of a network is from that without rounding; 0 if it is the same.

    Of classifiers the Kullback-Leibler divergence of the probabilities, in nats; otherwise the squared error as a
    share of the output's power.

    Args:
        module: A network with quantizers.
        batches: (N, C, H, W) each.
        classifies: Whether the output, (N, classes), is logits.
        main: From what the network returns to the output that is judged.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: Sequence[Tensor],
        *,
        classifies: bool,
        main: Callable[[Any], Tensor] = primary_output,
    ) -> None:
        self._module, self._classifies, self._main = module, classifies, main
        self._batches = _few(batches)
        with torch.no_grad(), rounding_off(module):
            self._expected = [main(module(batch)) for batch in self._batches]

    def measure(self) -> float:
        """Return the error of the network as it is now."""
        with torch.no_grad():
            pairs = [
                (self._main(self._module(x)), y) for x, y in zip(self._batches, self._expected, strict=True)
            ]
        if self._classifies:
            found = [
                F.kl_div(F.log_softmax(out, 1), F.log_softmax(y, 1), reduction="sum", log_target=True)
                for out, y in pairs
            ]
            return float(sum(found)) / sum(len(y) for _, y in pairs)
        return float(torch.cat([_shares(out, y, len(y)) for out, y in pairs]).mean())


@dataclass(frozen=True)
class RangesChosen:
    """What :func:`search_ranges` found.

    Attributes:
        tensors: How many activations have the range of which observer.
        uniform: An observer, if one for all activations turned out better than a choice for each.
        error: The error of the output, see :class:`OutputDeviation`.
        alternative: The least error with one observer for all activations.
    """

    tensors: Counter[str]
    uniform: str
    error: float
    alternative: float

    def __str__(self) -> str:
        of = ", ".join(f"{name} {count}" for name, count in self.tensors.most_common())
        against = f"against {self.alternative:.3g} with the best one for all tensors"
        chosen = f"{self.uniform} for all tensors" if self.uniform else f"observers by tensor: {of}"
        return f"{chosen}; error of the output {self.error:.3g}{'' if self.uniform else f' {against}'}"


def search_ranges(
    module: fx.GraphModule, batches: Sequence[Tensor], output: OutputDeviation, *, weights: bool = True
) -> RangesChosen:
    """Choose the ranges of all weights and activations; a network in eval mode, changed in place.

    Args:
        module: The network, calibrated with the observer `auto`.
        batches: (N, C, H, W) each.
        output: Judges the choice as a whole, against one observer for all activations.
        weights: Whether ranges of weights are chosen too.
    """
    quantizers = _choosable(module)
    search = _Search(module, quantizers, weights=weights)
    with torch.no_grad(), rounding_off(module):
        for batch in _few(batches):
            search.add(batch)
    search.set_weights()
    best = {path: _least(found) for path, found in search.errors().items()}
    _set(quantizers, best)
    error, chosen, uniform = output.measure(), best, ""
    errors = _errors_for_all(quantizers, output)
    for name, found in errors.items():
        if found < error * (1 if name == "minmax" else _WORTH):
            error, chosen, uniform = found, dict.fromkeys(quantizers, name), name
    _set(quantizers, chosen)
    alternative = min(errors.values(), default=float("inf"))
    return RangesChosen(Counter(chosen.values()), uniform, error, alternative)


def _least(errors: dict[Observer, Tensor]) -> Observer:
    """The candidate of least error; the widest unless that is far better in sum and worse for no image."""
    widest = errors["minmax"]
    worth = {
        name: float(found.sum())
        for name, found in errors.items()
        if found.sum() <= _WORTH * widest.sum() and (found <= _WORSE * widest).all()
    }
    return min(worth, key=lambda name: worth[name]) if worth else "minmax"


def set_uniform_ranges(module: nn.Module, output: OutputDeviation) -> float:
    """Give all activations the range of one observer, the one that suits the output best, and return the error.

    Args:
        module: The network, calibrated with the observer `auto` and in eval mode; changed in place.
        output: Measures the error.
    """
    quantizers = _choosable(module)
    errors = _errors_for_all(quantizers, output)
    if not errors:
        return output.measure()
    name = _least({name: torch.tensor([error]) for name, error in errors.items()})
    _set(quantizers, dict.fromkeys(quantizers, name))
    return errors[name]


def _choosable(module: nn.Module) -> dict[str, FakeQuantize]:
    """The quantizers of activations with ranges to choose from, by path."""
    return {
        path: quantizer
        for path, quantizer in module.named_modules()
        if isinstance(quantizer, FakeQuantize) and not quantizer.weight and quantizer.candidates
    }


def _errors_for_all(quantizers: dict[str, FakeQuantize], output: OutputDeviation) -> dict[Observer, float]:
    """The error of the output with the ranges of one observer for all activations, by observer."""
    errors: dict[Observer, float] = {}
    for name in sorted({name for quantizer in quantizers.values() for name in quantizer.candidates}):
        _set(quantizers, dict.fromkeys(quantizers, name))
        errors[name] = output.measure()
    return errors


def _set(quantizers: dict[str, FakeQuantize], chosen: dict[str, Observer]) -> None:
    for path, name in chosen.items():
        quantizers[path].set_range(torch.tensor([quantizers[path].candidates[name]]))


def _few(batches: Sequence[Tensor]) -> list[Tensor]:
    """The first images of some batches, in batches that fit into memory with everything computed from them."""
    found: list[Tensor] = []
    left = _MOST
    for batch in batches:
        size = max(1, batch[0].numel())
        count = min(len(batch), max(left // size, 0 if found else 1))
        found += torch.split(batch[:count], max(1, _AT_ONCE // size)) if count else ()
        left -= count * size
    return found


class _Search:
    """Errors of each candidate, summed over batches. The quantizers are off, except the one that is tried."""

    def __init__(self, module: fx.GraphModule, quantizers: dict[str, FakeQuantize], *, weights: bool) -> None:
        self._module, self._quantizers = module, quantizers
        self._device = next(module.parameters()).device
        self._errors: dict[str, dict[Observer, list[Tensor]]] = {
            path: {name: [] for name in quantizer.candidates} for path, quantizer in quantizers.items()
        }
        self._regions = {path: self._region(path) for path in quantizers}
        self._weights = dict(self._weight_candidates()) if weights else {}
        self._weight_errors: dict[str, list[Tensor]] = {}

    def add(self, batch: Tensor) -> None:
        """Add what one batch brings, (N, C, H, W)."""
        interpreter = fx.Interpreter(self._module, garbage_collect_values=False)
        interpreter.run(batch.to(self._device))
        for path, quantizer in self._quantizers.items():
            region, compared = self._regions[path]
            quantizer.mode = "quantize"
            for name, largest in quantizer.candidates.items():
                quantizer.set_range(torch.tensor([largest]))
                values = _rerun(interpreter, region)
                shares = [_shares(values[node], interpreter.env[node], len(batch)) for node in compared]
                self._errors[path][name].append(torch.stack(shares).sum(0))
            quantizer.mode = "off"
        self._add_weights(interpreter)

    def errors(self) -> dict[str, dict[Observer, Tensor]]:
        """Return the error that each candidate of each quantizer causes, (images,)."""
        return {
            path: {name: torch.cat(found) for name, found in errors.items()}
            for path, errors in self._errors.items()
        }

    def set_weights(self) -> None:
        """Set the range of each channel of each weight to the candidate of least error."""
        for path, errors in self._weight_errors.items():
            best = torch.stack(errors).argmin(0, keepdim=True)
            ranges = torch.stack(self._weights[path])
            self._layer(path).weight_quantizer.set_range(ranges.gather(0, best)[0])

    def _region(self, path: str) -> tuple[list[fx.Node], list[fx.Node]]:
        """The nodes to compute again when a quantizer changes, and those of them whose values are compared."""
        depth: dict[fx.Node, int] = {}
        for node in self._module.graph.nodes:
            found = [depth[source] for source in node.all_input_nodes if depth.get(source, _DEPTH) < _DEPTH]
            if node.op == "call_module" and node.target == path:
                depth[node] = min(found, default=0)
            elif found and node.op != "output":
                depth[node] = min(found) + self._is_weighted(node)
        compared = [
            node
            for node, steps in depth.items()
            if steps == _DEPTH or any(user.op == "output" for user in node.users)
        ]
        return list(depth), compared or list(depth)[-1:]

    def _is_weighted(self, node: fx.Node) -> bool:
        return node.op == "call_module" and isinstance(
            self._module.get_submodule(str(node.target)), (QuantConv2d, QuantLinear, nn.Conv2d, nn.Linear)
        )

    def _layer(self, path: str) -> QuantConv2d | QuantLinear:
        layer = self._module.get_submodule(path)
        assert isinstance(layer, (QuantConv2d, QuantLinear))
        return layer

    def _weight_candidates(self) -> Iterator[tuple[str, list[Tensor]]]:
        for path, layer in self._module.named_modules():
            if isinstance(layer, (QuantConv2d, QuantLinear)) and layer.weight_quantizer.channels is not None:
                largest = channel_maxima(layer.weight)
                least = best_channel_ranges(layer.weight, layer.weight_quantizer.reach)
                yield path, [*(largest * share for share in _SHARES), least]

    def _add_weights(self, interpreter: fx.Interpreter) -> None:
        for node in self._module.graph.nodes:
            path = str(node.target)
            if node.op != "call_module" or path not in self._weights:
                continue
            layer, expected = self._layer(path), interpreter.env[node]
            (x,) = (interpreter.env[source] for source in node.all_input_nodes)
            axis = 1 if isinstance(layer, QuantConv2d) else -1
            errors = self._weight_errors.setdefault(path, [torch.zeros(())] * len(self._weights[path]))
            layer.weight_quantizer.mode = "quantize"
            for number, ranges in enumerate(self._weights[path]):
                layer.weight_quantizer.set_range(ranges)
                error = (layer(x) - expected).movedim(axis, 0).flatten(1).double().square().sum(1)
                errors[number] = errors[number] + error
            layer.weight_quantizer.mode = "off"


def _rerun(interpreter: fx.Interpreter, region: list[fx.Node]) -> dict[fx.Node, Tensor]:
    values: dict[fx.Node, Tensor] = {}

    def load(node: fx.Node) -> Tensor:
        found: Tensor = values[node] if node in values else interpreter.env[node]
        return found

    for node in region:
        args, kwargs = fx.map_arg(node.args, load), fx.map_arg(node.kwargs, load)
        values[node] = getattr(interpreter, node.op)(node.target, args, kwargs)
    return values


def _shares(values: Tensor, expected: Tensor, images: int) -> Tensor:
    """The squared error of each image as a share of its power, (images,); 0 of what is no tensor of floats."""
    if not isinstance(expected, Tensor) or not expected.is_floating_point():
        return torch.zeros(images, dtype=torch.double)
    rows = images if expected.dim() and len(expected) == images else 1
    error, power = (
        each.double().square().reshape(rows, -1).mean(1) for each in (values - expected, expected)
    )
    return (error / power.clamp_min(TINY)).expand(images).cpu()
