"""The exits of a network, and where their weights come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, fx, nn

from zoo.surgery import evaluating, on_device_of, shape_of, unused_name
from zoo_anytime.decisions import PREFIX, add_decisions
from zoo_anytime.fitting import fit_classifiers, images_of

if TYPE_CHECKING:
    from zoo.contracts import Context
    from zoo_anytime.early_exit.places import Place

#: Images smaller than this are not made smaller by the convolutions of an exit.
_SMALL = 4


class Exit(nn.Module):
    """Convolutions that halve the sides and double the channels, the mean, and a classifier.

    (N, C, H, W) -> (N, classes).

    Args:
        channels: Of the input.
        classes: Of the output.
        side: The shorter side of the input.
        layers: How many convolutions.
        most: The most channels that these have.
    """

    def __init__(self, channels: int, classes: int, side: int, layers: int, most: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(layers):
            wide, stride = max(channels, min(2 * channels, most)), 2 if side >= _SMALL else 1
            parts += [nn.Conv2d(channels, wide, 3, stride=stride, padding=1), nn.ReLU()]
            channels, side = wide, -(-side // stride)
        self.features = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits


def add_exits(
    module: fx.GraphModule,
    places: Sequence[Place],
    thresholds: Sequence[float],
    layers: int,
    images: int,
    context: Context,
) -> None:
    """Add an exit at each place, with a classifier fitted to the logits that the network computes now.

    Args:
        module: The traced network, changed in place.
        places: In order.
        thresholds: Of the entropy, one for each.
        layers: Convolutions of an exit.
        images: How many images the classifiers are fitted on.
        context: Provides the images and the seed.
    """
    output = next(node for node in module.graph.nodes if node.op == "output")
    last = cast(fx.Node, output.args[0])
    classes = cast(torch.Size, shape_of(last))[1]
    most = max(layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d))
    exits = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        for place in places:
            _, channels, height, width = cast(torch.Size, shape_of(place.node))
            exits.append(Exit(channels, classes, min(height, width), layers, most))
    device = next(module.parameters()).device
    _fit(module, [place.node for place in places], last, [each.to(device) for each in exits], images, context)
    calls = []
    for number, (place, each) in enumerate(zip(places, exits, strict=True), 1):
        name = unused_name(module, f"{PREFIX}{number}")
        module.add_submodule(name, each)
        with module.graph.inserting_after(place.node):
            calls.append(module.graph.call_module(name, (place.node,)))
    add_decisions(module, calls, last, thresholds)


def _fit(
    module: fx.GraphModule,
    nodes: Sequence[fx.Node],
    last: fx.Node,
    exits: Sequence[Exit],
    images: int,
    context: Context,
) -> None:
    """Fit the classifiers of the exits to the network's logits."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(module.graph, copies)
    graph.output(tuple(copies[node] for node in (*nodes, last)))
    probe = fx.GraphModule(module, graph)

    def look(batch: Tensor) -> tuple[Tensor, list[Tensor]]:
        *values, answers = probe(batch)
        return answers, [each.features(value) for each, value in zip(exits, values, strict=True)]

    with evaluating(probe):
        fit_classifiers(
            [each.classifier for each in exits],
            look,
            (on_device_of(probe, each) for each in images_of(context, images)),
        )
