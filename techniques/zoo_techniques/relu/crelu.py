"""LeakyReLU and PReLU absorbed exactly by the layers around them.

With slope a, act(x) = ReLU(x) - a * ReLU(-x). The layer before computes both x and -x, its outputs doubled; the layer
after takes both, the weights of the second half being -a times those of the first. Max-pooling in between would not
take apart, averaging and concatenation do.

Paper: Shang et al., "Understanding and Improving Convolutional Neural Networks via Concatenated Rectified Linear
Units", ICML 2016 (the form).
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.modules.same_padding import SamePad2d
from zoo.surgery import replace_module
from zoo.surgery.reconstruction import Layer
from zoo_techniques.relu.activations import rectifier

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_LINEAR_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.Flatten,
    nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ZeroPad2d, SamePad2d,
)  # fmt: skip
_LINEAR_FUNCTIONS = frozenset({F.avg_pool2d, F.adaptive_avg_pool2d, F.interpolate, torch.flatten, F.dropout})


@dataclass(frozen=True)
class _Reader:
    """A layer that reads the doubled channels: from `start`, `width` of its inputs."""

    layer: Layer
    start: int
    width: int


def absorb_leaky_relu(model: nn.Module, activation: nn.Module, graph: fx.GraphModule) -> str | None:
    """Absorb a LeakyReLU, PReLU or RReLU into the layers around it, in place.

    Args:
        model: The network.
        activation: The module to absorb.
        graph: A trace of the network as it is, with shapes.

    Returns:
        Why it cannot be absorbed, or None.
    """
    slope = _slope(activation)
    if slope is None:
        return f"{type(activation).__name__} is not a sum of rectifiers"
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    nodes = [
        n for n in graph.graph.nodes if n.op == "call_module" and graph.get_submodule(n.target) is activation
    ]
    if len(nodes) != 1:
        return f"it is called {len(nodes)} times"
    node = nodes[0]
    writers = _writers(node.args[0], graph, calls)
    if writers is None:
        return "what comes before it is not a layer of its own"
    readers = _readers(node, 0, int(node.meta["tensor_meta"].shape[1]), graph, calls)
    if isinstance(readers, str):
        return readers
    for writer in writers:
        replace_module(model, writer, _both_signs(writer))
    for reader in readers:
        replace_module(model, reader.layer, _reading_both(reader, slope))
    replace_module(model, activation, rectifier("relu").train(activation.training))
    return None


def _slope(activation: nn.Module) -> Tensor | None:
    """The slope for negative values, one or one a channel; None if there is none."""
    if isinstance(activation, nn.LeakyReLU):
        return torch.tensor([activation.negative_slope], dtype=torch.float64)
    if isinstance(activation, nn.RReLU):
        return torch.tensor([(activation.lower + activation.upper) / 2], dtype=torch.float64)
    return activation.weight.detach().double().cpu() if isinstance(activation, nn.PReLU) else None


def _writers(node: fx.Node, graph: fx.GraphModule, calls: Counter[object]) -> list[nn.Module] | None:
    """The layer that computes `node`, and the batch norm after it if there is one."""
    if node.op != "call_module" or len(node.users) != 1 or calls[node.target] != 1:
        return None
    module = graph.get_submodule(str(node.target))
    if type(module) is nn.BatchNorm2d:
        before = _writers(cast(fx.Node, node.args[0]), graph, calls)
        return None if before is None or len(before) > 1 else [*before, module]
    return [module] if type(module) in _LAYERS and getattr(module, "groups", 1) == 1 else None


def _readers(
    node: fx.Node, start: int, width: int, graph: fx.GraphModule, calls: Counter[object]
) -> list[_Reader] | str:
    """The layers that take in what `node` gives, of which `width` channels from `start` are to be doubled."""
    readers: list[_Reader] = []
    for user in node.users:
        if user.op == "call_module":
            module = graph.get_submodule(str(user.target))
            if type(module) in _LAYERS and getattr(module, "groups", 1) == 1 and calls[user.target] == 1:
                if type(module) is nn.Linear and len(user.meta["tensor_meta"].shape) != 2:
                    return f"'{user.target}' reads something else than channels"
                readers.append(_Reader(cast(Layer, module), start, width))
                continue
            follow = isinstance(module, _LINEAR_MODULES)
        else:
            follow = user.target in _LINEAR_FUNCTIONS or (user.op, user.target) == ("call_method", "flatten")
        first, size = start, width
        if user.op == "call_function" and user.target is torch.cat:
            axis = user.kwargs.get("dim", user.args[1] if len(user.args) > 1 else 0)
            parts = cast("list[fx.Node]", user.args[0])
            follow = bool(axis == 1) and parts.count(node) == 1
            before = parts[: parts.index(node)] if follow else []
            first += sum(int(part.meta["tensor_meta"].shape[1]) for part in before)
        if not follow:
            return (
                f"'{user.target if user.op == 'call_module' else user.name}' after it is not a linear layer"
            )
        given, result = node.meta["tensor_meta"].shape, user.meta["tensor_meta"].shape
        if len(result) == 2 and len(given) == 4:  # flattened: each channel is now a run of features
            area = int(result[1]) // int(given[1])
            first, size = first * area, size * area
        found = _readers(user, first, size, graph, calls)
        if isinstance(found, str):
            return found
        readers += found
    return readers or "nothing comes after it"


@torch.no_grad()
def _both_signs(writer: nn.Module) -> nn.Module:
    """The layer, or batch norm, that computes [x, -x] where `writer` computes x."""
    new = copy.deepcopy(writer)
    if isinstance(new, nn.BatchNorm2d):
        new.num_features *= 2
        new.running_mean = None if new.running_mean is None else _join_signs(new.running_mean)
        new.running_var = None if new.running_var is None else new.running_var.repeat(2)
        if new.affine:
            new.weight, new.bias = nn.Parameter(new.weight.repeat(2)), nn.Parameter(_join_signs(new.bias))
        return new
    layer = cast(Layer, new)
    outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    layer.weight = nn.Parameter(_join_signs(layer.weight, outputs))
    if layer.bias is not None:
        layer.bias = nn.Parameter(_join_signs(layer.bias))
    if isinstance(layer, nn.Linear):
        layer.out_features *= 2
    else:
        layer.out_channels *= 2
    return layer


def _join_signs(values: Tensor, axis: int = 0) -> Tensor:
    return torch.cat([values, -values], dim=axis)


@torch.no_grad()
def _reading_both(reader: _Reader, slope: Tensor) -> nn.Module:
    """The layer that reads [ReLU(x), ReLU(-x)] where `reader` read act(x)."""
    layer = copy.deepcopy(reader.layer)
    axis = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
    weight = layer.weight
    sizes = [reader.start, reader.width, weight.shape[axis] - reader.start - reader.width]
    before, own, after = torch.split(weight, sizes, dim=axis)
    slopes = slope.repeat_interleave(reader.width // len(slope)).to(weight)
    shape = [1] * weight.dim()
    shape[axis] = -1
    layer.weight = nn.Parameter(torch.cat([before, own, -slopes.view(shape) * own, after], dim=axis))
    if isinstance(layer, nn.Linear):
        layer.in_features += reader.width
    else:
        layer.in_channels += reader.width
    return layer
