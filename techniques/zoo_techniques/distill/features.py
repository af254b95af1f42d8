"""Intermediate features of networks: finding comparable ones in two nets, and reading them while a net runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from zoo.modules.output_tree import tensors_of
from zoo.surgery import evaluating, names_of, on_device_of


@dataclass(frozen=True)
class Feature:
    """The output of a layer at one of its calls.

    Attributes:
        block: The block whose last convolution or activation it is; "" if the network names none.
        layer: Name of the leaf module.
        call: How often it was called before in the same forward pass; one activation may serve many blocks.
        channels: Of its output, for the example input.
        height: Of its output.
        width: Of its output.
    """

    block: str
    layer: str
    call: int
    channels: int
    height: int
    width: int


def features_of(model: nn.Module, example: Tensor, blocks: Iterable[str] = ()) -> list[Feature]:
    """Return the last convolution or activation of each of `blocks`, in order of execution.

    Without blocks: the last one before each change of resolution, and the last of all. Only outputs of the shape
    (N, C, H, W) count, and the network's own output is not one of its features.

    Args:
        model: The network.
        example: An input, (N, C, H, W).
        blocks: Names of modules.
    """
    calls = _calls(model, example)
    blocks = list(blocks)
    if not blocks:
        return [
            feature
            for feature, following in zip(calls, [*calls[1:], None], strict=True)
            if following is None or (following.height, following.width) != (feature.height, feature.width)
        ]
    last: dict[str, Feature] = {}
    for feature in calls:
        for block in blocks:
            if feature.layer == block or feature.layer.startswith(f"{block}."):
                last[block] = Feature(block, *_rest(feature))
    found = set(last.values())
    return [each for feature in calls for each in found if _rest(each) == _rest(feature)]


def pair_features(ours: Sequence[Feature], theirs: Sequence[Feature]) -> list[tuple[Feature, Feature]]:
    """Return pairs of corresponding features of two networks: those of blocks of one name, or else of one resolution.

    By resolution, the features before the lowest one are paired separately from those after it, so that an encoder is
    not compared with a decoder.
    """
    by_block = {feature.block: feature for feature in theirs if feature.block}
    named = [(feature, by_block[feature.block]) for feature in ours if feature.block in by_block]
    if named:
        return named
    places = {key: feature for feature, key in zip(theirs, _places(theirs), strict=True)}
    return [(feature, places[key]) for feature, key in zip(ours, _places(ours), strict=True) if key in places]


class FeatureRecorder:
    """Hold the features of a network's last forward pass. Detach with :meth:`close`.

    Attributes:
        missing: Features whose layer the network does not have, or, being a graph, does not call.
    """

    def __init__(self, model: nn.Module, features: Iterable[Feature]) -> None:
        self.missing: list[Feature] = []
        self._held: dict[tuple[str, int], Tensor] = {}
        self._calls: dict[str, int] = {}
        known = dict(model.named_modules(remove_duplicate=False))
        if isinstance(model, fx.GraphModule):
            called = {node.target for node in model.graph.nodes if node.op == "call_module"}
            known = {name: module for name, module in known.items() if name in called}
        wanted: dict[str, set[int]] = {}
        for feature in features:
            if feature.layer in known:
                wanted.setdefault(feature.layer, set()).add(feature.call)
            else:
                self.missing.append(feature)
        self._handles = [model.register_forward_pre_hook(self._begin)]
        self._handles += [
            known[layer].register_forward_hook(self._keeper(layer, calls)) for layer, calls in wanted.items()
        ]

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._held.clear()
        self._calls.clear()

    def _keeper(self, layer: str, calls: set[int]) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, args: Any, output: Tensor) -> None:
            call = self._calls.get(layer, 0)
            self._calls[layer] = call + 1
            if call in calls:
                self._held[layer, call] = output

        return keep

    def get(self, feature: Feature) -> Tensor | None:
        """Return a feature, (N, C, H, W); None if the last forward pass did not reach it."""
        return self._held.get((feature.layer, feature.call))

    def close(self) -> None:
        """Remove the hooks and forget what was held."""
        for handle in self._handles:
            handle.remove()
        self._held.clear()


def _calls(model: nn.Module, example: Tensor) -> list[Feature]:
    """Every call of a convolution or activation, in order of execution; the one that gives the output left out."""
    found: list[tuple[Feature, Tensor]] = []
    counts: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            call = counts.get(name, 0)
            counts[name] = call + 1
            if isinstance(output, Tensor) and output.dim() == 4:
                found.append((Feature("", name, call, *output.shape[1:]), output))

        return hook

    handles = [
        module.register_forward_hook(note(names[0]))
        for module, names in names_of(model).items()
        if isinstance(module, _ConvNd) or _is_activation(module)
    ]
    try:
        with evaluating(model), torch.no_grad():
            result = model(on_device_of(model, example))
    finally:
        for handle in handles:
            handle.remove()
    ends = {id(each) for each in tensors_of(result).values()}
    return [feature for feature, output in found if id(output) not in ends]


def _is_activation(module: nn.Module) -> bool:
    leaf = next(module.children(), None) is None
    return leaf and type(module).__module__.rpartition(".")[2].startswith("activation")


def _rest(feature: Feature) -> tuple[str, int, int, int, int]:
    return feature.layer, feature.call, feature.channels, feature.height, feature.width


def _places(features: Sequence[Feature]) -> list[tuple[int, int, bool]]:
    """Resolution of each feature, and whether it comes after the lowest one."""
    areas = [feature.height * feature.width for feature in features]
    lowest = areas.index(min(areas)) if areas else 0
    return [(each.height, each.width, number > lowest) for number, each in enumerate(features)]
