"""The exits of a network: what decides that an image leaves, and where their weights come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, fx, nn

from zoo.surgery import evaluating, on_device_of, shape_of, unused_name

if TYPE_CHECKING:
    from zoo.contracts import Context
    from zoo_anytime.early_exit.places import Place

#: What the modules of the exits are called, with a number; their classifiers are at ``exit_1.classifier``.
PREFIX = "exit_"
#: Images smaller than this are not made smaller by the convolutions of an exit.
_SMALL = 4
_RIDGE = 1e-3


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


class Decision(nn.Module):
    """The logits of an exit for images that it is sure of, and those of what comes later for the others.

    Two tensors (N, classes) -> one. While training it passes the later ones on: every image goes all the way, so that
    all exits learn from all images.

    Args:
        entropy: Of the classes, in nats, below which an exit counts as sure.
    """

    entropy: Tensor

    def __init__(self, entropy: float) -> None:
        super().__init__()
        self.register_buffer("entropy", torch.tensor([entropy]))

    def forward(self, early: Tensor, late: Tensor) -> Tensor:
        if self.training:
            # Where only the exits learn, the result must depend on them for its loss to have a gradient, which is 0.
            return late if late.requires_grad else late + 0 * early
        found = -(early.softmax(dim=1) * early.log_softmax(dim=1)).sum(dim=1, keepdim=True)
        return torch.where(found < self.entropy, early, late)


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
    late = last
    with module.graph.inserting_before(output):
        apart = list(enumerate(zip(calls, _told_apart(thresholds), strict=True), 1))
        for number, (call, entropy) in reversed(apart):
            name = unused_name(module, f"decision_{number}")
            module.add_submodule(name, Decision(entropy).to(device))
            late = module.graph.call_module(name, (call, late))
    output.args = (late,)
    module.graph.lint()
    module.recompile()
    module.eval()


def _told_apart(thresholds: Sequence[float]) -> list[float]:
    """The thresholds, those that are equal a rounding apart: exporters store equal numbers only once.

    In the file each exit is to have one of its own, which can be changed.
    """
    found: list[Tensor] = []
    for entropy in map(torch.tensor, thresholds):
        while any(torch.equal(entropy, other) for other in found):
            entropy = torch.nextafter(entropy, torch.tensor(torch.inf))
        found.append(entropy)
    return [float(entropy) for entropy in found]


@contextmanager
def exits_closed(module: nn.Module) -> Iterator[None]:
    """Let no image leave early while the body runs."""
    decisions = [each for each in module.modules() if isinstance(each, Decision)]
    kept = [each.entropy for each in decisions]
    for each in decisions:
        each.entropy = torch.full_like(each.entropy, -1.0)
    try:
        yield
    finally:
        for each, entropy in zip(decisions, kept, strict=True):
            each.entropy = entropy


def _fit(
    module: fx.GraphModule,
    nodes: Sequence[fx.Node],
    last: fx.Node,
    exits: Sequence[Exit],
    images: int,
    context: Context,
) -> None:
    """Set the classifiers to the ridge regression of the network's logits on the exits' features."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(module.graph, copies)
    graph.output(tuple(copies[node] for node in (*nodes, last)))
    probe = fx.GraphModule(module, graph)
    features: list[list[Tensor]] = [[] for _ in exits]
    logits: list[Tensor] = []
    with evaluating(probe):
        for batch in _images(context, images):
            *values, answers = probe(on_device_of(probe, batch))
            logits.append(answers.double().cpu())
            for found, each, value in zip(features, exits, values, strict=True):
                found.append(each.features(value).double().cpu())
    wanted = torch.cat(logits)
    for found, each in zip(features, exits, strict=True):
        weight, bias = _ridge(torch.cat(found), wanted)
        with torch.no_grad():
            each.classifier.weight.copy_(weight.T)
            each.classifier.bias.copy_(bias)


def _ridge(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The linear map (in, out) and the offset (out,) from inputs (n, in) to outputs (n, out)."""
    mean, wanted = inputs.mean(0), outputs.mean(0)
    centered = inputs - mean
    gram = centered.T @ centered
    scale = gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    gram += _RIDGE * scale * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, centered.T @ (outputs - wanted))
    return weight, wanted - mean @ weight


def _images(context: Context, images: int) -> Iterator[Tensor]:
    if context.calibration_images is not None:
        yield from context.calibration_images(images)
    elif context.calibration is not None:
        yield from context.calibration()
    else:
        yield context.example_input
