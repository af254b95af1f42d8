"""Small random networks of ordinary and awkward parts, for what must hold for every network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from zoo.contracts import Architecture, InputSpec, OutputSpec

SIDE, CHANNELS = 16, 8


def conv(inputs: int = CHANNELS, outputs: int = CHANNELS, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=options.pop("padding", kernel // 2), **options)


def hooked() -> nn.Module:
    layer = conv()
    layer.register_forward_hook(lambda module, args, output: output.clamp(-1, 1) * 2)
    return layer


def tied() -> nn.ModuleList:
    first, second = conv(), conv()
    second.weight = first.weight
    return nn.ModuleList([first, second])


def settled_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(CHANNELS)
    with torch.no_grad():
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            assert values is not None
            values.uniform_(0.5, 2)
    return norm


#: Makers of layers that keep (N, 8, H, W), or halve or double the sides, and are used as they are.
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": conv,
    "pointwise": lambda: conv(kernel=1),
    "wide": lambda: conv(kernel=5),
    "without bias": lambda: conv(bias=False),
    "depthwise": lambda: conv(groups=CHANNELS),
    "grouped": lambda: conv(groups=2),
    "dilated": lambda: conv(dilation=2, padding=2),
    "strided": lambda: conv(stride=2),
    "reflect": lambda: conv(padding_mode="reflect"),
    "replicate": lambda: conv(padding_mode="replicate"),
    "circular": lambda: conv(padding_mode="circular"),
    "conv and norm": lambda: nn.Sequential(conv(), settled_norm()),
    "norm and conv": lambda: nn.Sequential(settled_norm(), conv()),
    "norm": settled_norm,
    "group norm": lambda: nn.GroupNorm(2, CHANNELS),
    "instance norm": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "transposed 2x2": lambda: nn.ConvTranspose2d(CHANNELS, CHANNELS, 2, 2),
    "transposed 3x3": lambda: nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, 2, 1, 1),
    "shuffle": lambda: nn.Sequential(conv(CHANNELS, 4 * CHANNELS), nn.PixelShuffle(2)),
    "unshuffle": lambda: nn.Sequential(nn.PixelUnshuffle(2), conv(4 * CHANNELS, CHANNELS, 1)),
    "upsample": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "relu6": nn.ReLU6,
    "leaky relu": lambda: nn.LeakyReLU(0.2),
    "prelu": lambda: nn.PReLU(CHANNELS),
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
    "mish": nn.Mish,
    "max pool": lambda: nn.MaxPool2d(2),
    "overlapping max pool": lambda: nn.MaxPool2d(3, 2, 1),
    "average pool": lambda: nn.AvgPool2d(2),
    "average pool beyond the border": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average pool with a divisor": lambda: nn.AvgPool2d(2, divisor_override=3),
    "average pool without the border": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "dropout": lambda: nn.Dropout(0.1),
    "identity": nn.Identity,
    "hooked": hooked,
    "weight norm": lambda: parametrizations.weight_norm(conv()),
    "spectral norm": lambda: parametrizations.spectral_norm(conv()),
    "hook of weight norm": lambda: nn.utils.weight_norm(conv()),
    "hook of spectral norm": lambda: nn.utils.spectral_norm(conv()),
}  # fmt: skip


def _write_slice(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    x[:, :3].mul_(-2.0)
    return x


def _write_chunk(net: Any, x: Tensor) -> Tensor:
    first, second = net.a(x).chunk(2, 1)
    first.add_(1)
    return torch.cat([second, first], 1)


def _attention(net: Any, x: Tensor) -> Tensor:
    tokens = net.a(x).flatten(2).transpose(1, 2)
    y = F.scaled_dot_product_attention(net.q(tokens), net.k(tokens), net.v(tokens))
    return x + y.transpose(1, 2).reshape(x.shape)


def _indices(net: Any, x: Tensor) -> Tensor:
    values, _ = net.a(x).max(dim=1, keepdim=True)
    return x * values.sigmoid()


#: Functions of (net, x) with what may be built by hand; net has the layers a, b (convolutions), q, k, v (linear),
#: tied (two convolutions with one weight).
FUNCTIONS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "residual": lambda net, x: x + net.b(F.relu(net.a(x))),
    "residual in place": lambda net, x: net.a(x).add_(x),
    "squeeze and excite": lambda net, x: x * net.a(x).mean((2, 3), keepdim=True).sigmoid(),
    "concat": lambda net, x: torch.cat([net.a(x)[:, :4], net.b(x)[:, 4:]], 1),
    "concat with itself": lambda net, x: torch.cat([x[:, :4], x[:, :4]], 1),
    "chunks": lambda net, x: torch.cat(list(net.a(x).chunk(4, 1))[::-1], 1),
    "split": lambda net, x: torch.mul(*net.a(x).split(4, 1)).repeat(1, 2, 1, 1),
    "written slice": _write_slice,
    "written chunk": _write_chunk,
    "layer twice": lambda net, x: net.a(F.relu(net.a(x))),
    "layer thrice": lambda net, x: net.a(net.a(net.a(x)).tanh()),
    "tied": lambda net, x: net.tied[1](F.relu(net.tied[0](x))),
    "weight read elsewhere": lambda net, x: net.a(x) * net.a.weight.abs().mean(),
    "bias read elsewhere": lambda net, x: net.a(x) + net.a.bias.view(1, -1, 1, 1),
    "functional conv": lambda net, x: F.conv2d(x, net.a.weight, net.a.bias, padding=1),
    "keywords": lambda net, x: F.relu(input=net.a(input=x)),
    "device": lambda net, x: net.a(x.to(net.a.weight.device)).float().contiguous(),
    "clamp": lambda net, x: torch.clamp(net.a(x), 0, 0.5),
    "shift": lambda net, x: torch.roll(net.a(x), 1, 3),
    "flip": lambda net, x: net.a(x).flip(3),
    "pad and crop": lambda net, x: F.pad(net.a(x), (1, 1, 1, 1), value=0.5)[:, :, 1:-1, 1:-1],
    "transposed sides": lambda net, x: net.a(x).transpose(2, 3),
    "channel shuffle": lambda net, x: net.a(x).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
    "linear over channels": lambda net, x: net.q(net.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "layer norm": lambda net, x: F.layer_norm(net.a(x).permute(0, 2, 3, 1), (CHANNELS,)).permute(0, 3, 1, 2),
    "attention": _attention,
    "max with indices": _indices,
    "pool with indices": lambda net, x: F.max_pool2d(net.a(x), 2, return_indices=True)[0],
    "sort": lambda net, x: net.a(x).sort(dim=1)[0],
    "softmax": lambda net, x: net.a(x).softmax(1) * 3,
    "normalise": lambda net, x: F.normalize(net.a(x), dim=1),
    "maximum": lambda net, x: torch.maximum(net.a(x), net.b(x)),
    "where": lambda net, x: torch.where(x > 0, net.a(x), net.b(x)),
    "power": lambda net, x: net.a(x).pow(2) * 0.5 - net.b(x).abs().sqrt(),
    "sum of products": lambda net, x: net.a(x) * net.b(x) - x / 2,
    "einsum": lambda net, x: torch.einsum("nchw,cd->ndhw", net.a(x), net.q.weight),
    "stack": lambda net, x: torch.stack([net.a(x), x], 0).mean(0),
    "interpolate": lambda net, x: F.interpolate(net.a(x), scale_factor=2, mode="nearest"),
    "adaptive pool": lambda net, x: F.adaptive_avg_pool2d(net.a(x), 4),
}


class Part(nn.Module):
    """A function with the layers that it may use."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.compute = FUNCTIONS[name]
        self.a, self.b, self.tied = conv(), conv(), tied()
        self.q, self.k, self.v = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


class Network(nn.Module):
    """A convolution, the parts one after the other, and a linear layer on a 2 x 2 grid of means."""

    def __init__(self, parts: Sequence[str]) -> None:
        super().__init__()
        self.stem = conv(3, CHANNELS)
        self.parts = nn.ModuleList(LAYERS[name]() if name in LAYERS else Part(name) for name in parts)
        self.head = nn.Linear(4 * CHANNELS, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for part in self.parts:
            x = part(x)
        return self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))


@dataclass(frozen=True)
class Case:
    """A network by the names of its parts, and what is applied to it."""

    parts: tuple[str, ...]
    recipe: str
    seed: int = 0

    def architecture(self) -> Architecture:
        """The network as an architecture with inputs of 3 x 16 x 16."""
        case = self

        class Random(Architecture):
            id, summary, task = "random", "a random network", "classification"
            input = InputSpec("rgb", 3, example=(SIDE, SIDE), fixed_size=True)
            output = OutputSpec("logits", 10)

            def build(self) -> nn.Module:
                torch.manual_seed(case.seed)
                return Network(case.parts).eval()

        return Random()


RECIPES = (
    "",
    "ptq",
    "ptq",
    "qat",
    "low-rank",
    "channel-prune",
    "depthwise",
    "relu",
    "low-rank+ptq",
    "fixed-point",
)
#: Parts that halve the sides may not follow each other for ever: of 16 pixels a pool makes one in four steps.
_HALVING = frozenset(
    name for name in (*LAYERS, *FUNCTIONS) if "pool" in name or name in ("strided", "unshuffle")
)


def _large_enough(parts: Sequence[str]) -> bool:
    return sum(name in _HALVING for name in parts) <= 1


def cases(recipes: Sequence[str] = RECIPES) -> st.SearchStrategy[Case]:
    """Networks of one to four parts, with a recipe each."""
    names = st.sampled_from(sorted([*LAYERS, *FUNCTIONS]))
    parts = st.lists(names, min_size=1, max_size=4).filter(_large_enough).map(tuple)
    return st.builds(Case, parts, st.sampled_from(recipes), st.integers(0, 3))
