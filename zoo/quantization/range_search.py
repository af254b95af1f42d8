"""Ranges chosen by the error that rounding causes further on, for each tensor among those that observers propose.

No observer suits every tensor: what a range cuts off matters where the layers behind it rely on large values, and the
length of a step matters elsewhere. So each candidate is tried, alone, and judged by the results of the layers behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.observers import Observer
from zoo.quantization.output_deviation import OutputDeviation, error_shares, first_images
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear
from zoo.quantization.quantizer_switches import rounding_off
from zoo.quantization.ranges import best_channel_ranges, channel_maxima
from zoo.quantization.rerun import rerun

#: Weighted layers behind a tensor whose results are compared: those of a residual block.
_DEPTH = 2
#: Other images than those of the calibration may hold more of what is cut off, so ranges narrower than all that was
#: seen must leave at most this share of the error, and of no image more than so many times its error.
_WORTH, _WORSE = 0.6, 2.0
#: After so many images, what leaves more than this share of the error will not become that much better.
_EARLY, _HOPE = 4, 0.8
#: Ranges of weights that are tried, as shares of each channel's largest magnitude, beside that of least squared error.
_SHARES = (1.0, 0.85, 0.7)
#: Positions of a layer's output after which its ranges of weights are settled, on no fewer than _EARLY images.
_POSITIONS = 4096


@dataclass(frozen=True)
class RangesChosen:
    """What :func:`search_ranges` found.

    Attributes:
        tensors: How many activations have the range of which observer.
        uniform: An observer, if one for all activations turned out better than a choice for each.
        error: The error of the output, see :class:`~zoo.quantization.output_deviation.OutputDeviation`.
        widest: The error with the largest magnitude of each activation for its range.
    """

    tensors: Counter[str]
    uniform: str
    error: float
    widest: float

    def __str__(self) -> str:
        of = ", ".join(f"{name} {count}" for name, count in self.tensors.most_common())
        against = f"against {self.widest:.3g} with minmax for all tensors"
        chosen = f"{self.uniform} for all tensors" if self.uniform else f"observers by tensor: {of}"
        return f"{chosen}; error of the output {self.error:.3g}{'' if self.uniform else f' {against}'}"


def search_ranges(
    module: fx.GraphModule,
    batches: Sequence[Tensor],
    output: OutputDeviation,
    *,
    weights: bool = True,
    seen: Callable[[int], None] = lambda images: None,
) -> RangesChosen:
    """Choose the ranges of all weights and activations; a network in eval mode, changed in place.

    Args:
        module: The network, calibrated with the observer `auto`.
        batches: (N, C, H, W) each.
        output: Judges the choice as a whole, against one observer for all activations.
        weights: Whether ranges of weights are chosen too.
        seen: Called after each batch with its number of images.
    """
    quantizers = _choosable(module)
    search = _Search(module, quantizers, weights=weights)
    with torch.no_grad(), rounding_off(module):
        for batch in first_images(batches):
            if search.is_settled:
                break
            search.add(batch)
            seen(len(batch))
    search.set_weights()
    best = {path: _least(found) for path, found in search.errors().items()}
    _set(quantizers, best)
    errors, chosen, uniform = output.by_image(), best, ""
    alternatives = _errors_for_all(quantizers, output)
    for name, found in alternatives.items():
        better = bool(found.sum() < errors.sum()) if name == "minmax" else _is_worth_it(found, errors)
        if better:
            errors, chosen, uniform = found, dict.fromkeys(quantizers, name), name
    _set(quantizers, chosen)
    widest = alternatives.get("minmax", errors)
    return RangesChosen(Counter(chosen.values()), uniform, float(errors.mean()), float(widest.mean()))


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
    name = _least(errors)
    _set(quantizers, dict.fromkeys(quantizers, name))
    return float(errors[name].mean())


def _is_worth_it(narrower: Tensor, wider: Tensor) -> bool:
    """Whether a range that cuts something off is so much better: errors of the same images, (images,) each."""
    return bool(narrower.sum() <= _WORTH * wider.sum() and (narrower <= _WORSE * wider).all())


def _is_hopeless(narrower: Tensor, wider: Tensor) -> bool:
    """Whether the errors of some images tell that it will not turn out so."""
    wider = wider[: len(narrower)]
    late = len(narrower) >= _EARLY and bool(narrower.sum() > _HOPE * wider.sum())
    return late or not bool((narrower <= _WORSE * wider).all())


def _least(errors: dict[Observer, Tensor]) -> Observer:
    """The candidate of least error by image, (images,) each; the widest unless another is worth it."""
    worth = {name: found.sum() for name, found in errors.items() if _is_worth_it(found, errors["minmax"])}
    return min(worth, key=lambda name: float(worth[name])) if worth else "minmax"


def _choosable(module: nn.Module) -> dict[str, FakeQuantize]:
    """The quantizers of activations with ranges to choose from, by path."""
    return {
        path: quantizer
        for path, quantizer in module.named_modules()
        if isinstance(quantizer, FakeQuantize) and not quantizer.weight and quantizer.candidates
    }


def _errors_for_all(quantizers: dict[str, FakeQuantize], output: OutputDeviation) -> dict[Observer, Tensor]:
    """The errors of the output with the ranges of one observer for all activations, the hopeless ones left out."""
    errors: dict[Observer, Tensor] = {}
    names = {name for quantizer in quantizers.values() for name in quantizer.candidates} - {"minmax"}
    for name in ("minmax", *sorted(names)) if quantizers else ():
        _set(quantizers, dict.fromkeys(quantizers, name))
        if name == "minmax":
            errors[name] = output.by_image()
            continue
        found = output.by_image(lambda so_far: _is_hopeless(so_far, errors["minmax"]))
        if not _is_hopeless(found, errors["minmax"]):
            errors[name] = found
    return errors


def _set(quantizers: dict[str, FakeQuantize], chosen: dict[str, Observer]) -> None:
    for path, name in chosen.items():
        quantizers[path].set_range(torch.tensor([quantizers[path].candidates[name]]))


class _Search:
    """Errors of each candidate, by image. The quantizers are off, except the one that is tried."""

    def __init__(self, module: fx.GraphModule, quantizers: dict[str, FakeQuantize], *, weights: bool) -> None:
        self._module, self._quantizers = module, quantizers
        self._device = next(module.parameters()).device
        self._errors: dict[str, dict[Observer, Tensor]] = {
            path: dict.fromkeys(_promising(quantizer.candidates), torch.zeros(0, dtype=torch.double))
            for path, quantizer in quantizers.items()
        }
        self._regions = {path: self._region(path) for path in quantizers}
        self._weights = dict(self._weight_candidates()) if weights else {}
        self._weight_errors: dict[str, list[Tensor]] = {}
        self._images: Counter[str] = Counter()
        self._positions: Counter[str] = Counter()

    @property
    def is_settled(self) -> bool:
        """Whether more images would change nothing."""
        return all(len(found) == 1 for found in self._errors.values()) and not any(
            self._is_open(path) for path in self._weights
        )

    def add(self, batch: Tensor) -> None:
        """Add what one batch brings, (N, C, H, W)."""
        interpreter = fx.Interpreter(self._module, garbage_collect_values=False)
        interpreter.run(batch.to(self._device))
        for path, errors in self._errors.items():
            if len(errors) > 1:
                self._add_candidates(path, errors, interpreter, len(batch))
        self._add_weights(interpreter, len(batch))

    def errors(self) -> dict[str, dict[Observer, Tensor]]:
        """Return the errors of each candidate of each quantizer that is not out of the question, (images,)."""
        return self._errors

    def set_weights(self) -> None:
        """Set the range of each channel of each weight to the candidate of least error."""
        for path, errors in self._weight_errors.items():
            best = torch.stack(errors).argmin(0, keepdim=True)
            ranges = torch.stack(self._weights[path])
            self._layer(path).weight_quantizer.set_range(ranges.gather(0, best)[0])

    def _add_candidates(
        self, path: str, errors: dict[Observer, Tensor], interpreter: fx.Interpreter, images: int
    ) -> None:
        quantizer, (region, compared) = self._quantizers[path], self._regions[path]
        quantizer.mode = "quantize"
        for name in tuple(errors):
            quantizer.set_range(torch.tensor([quantizer.candidates[name]]))
            values = rerun(interpreter, region)
            shares = [error_shares(values[node], interpreter.env[node], images) for node in compared]
            errors[name] = torch.cat([errors[name], torch.stack(shares).sum(0)])
            if name != "minmax" and _is_hopeless(errors[name], errors["minmax"]):
                del errors[name]
        quantizer.mode = "off"

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

    def _is_open(self, path: str) -> bool:
        return self._images[path] < _EARLY or self._positions[path] < _POSITIONS

    def _add_weights(self, interpreter: fx.Interpreter, images: int) -> None:
        for node in self._module.graph.nodes:
            path = str(node.target)
            if node.op != "call_module" or path not in self._weights or not self._is_open(path):
                continue
            layer, expected = self._layer(path), interpreter.env[node]
            (x,) = (interpreter.env[source] for source in node.all_input_nodes)
            axis = 1 if isinstance(layer, QuantConv2d) else -1
            errors = self._weight_errors.setdefault(path, [torch.zeros(())] * len(self._weights[path]))
            layer.weight_quantizer.mode = "quantize"
            for number, ranges in enumerate(self._weights[path]):
                layer.weight_quantizer.set_range(ranges)
                error = (layer(x) - expected).movedim(axis, 0).flatten(1).square().sum(1, dtype=torch.double)
                errors[number] = errors[number] + error
            layer.weight_quantizer.mode = "off"
            self._images[path] += images
            self._positions[path] += expected.numel() // expected.shape[axis]


def _promising(candidates: dict[Observer, float]) -> Iterator[Observer]:
    """The widest range, and those with steps so short that the error may be worth what they cut off."""
    for name, largest in candidates.items():
        if name == "minmax" or largest**2 <= _WORTH * candidates["minmax"] ** 2:
            yield name
