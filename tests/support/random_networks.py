"""Small random networks of ordinary and awkward parts, for what must hold for every network."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from zoo.contracts import Architecture, InputSpec, OutputSpec

SIDE, CHANNELS = 8, 8


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


def _loop(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    for index in range(y.size(1)):
        y[:, index] *= index - 3
    return y


def _looped_chunks(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    for part in y.chunk(4, 1):
        part.mul_(2)
    return y


def _turned(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    turned = y.transpose(2, 3)
    turned[:, 2:].add_(1)
    return y + turned


def _sizes(net: Any, x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    if x.dim() == 4 and width % 2:
        x = F.pad(x, (0, 1))
    return net.a(x).view(n, channels, -1).reshape(n, channels, height, width) / float(channels)


def _positions(net: Any, x: Tensor) -> Tensor:
    return net.a(x) + torch.linspace(-1, 1, x.shape[3]).expand(x.shape[0], 1, x.shape[2], x.shape[3])


def _attention(net: Any, x: Tensor) -> Tensor:
    tokens = net.a(x).flatten(2).transpose(1, 2)
    y = F.scaled_dot_product_attention(net.q(tokens), net.k(tokens), net.v(tokens))
    return x + y.transpose(1, 2).reshape(x.shape)


def _indices(net: Any, x: Tensor) -> Tensor:
    values, _ = net.a(x).max(dim=1, keepdim=True)
    return x * values.sigmoid()


#: Functions of (net, x) with what may be built by hand; net has the layers a, b (convolutions), q, k, v (linear),
#: tied (two convolutions with one weight), norm (a batch norm).
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
    "written loop": _loop,
    "looped chunks": _looped_chunks,
    "written turned": _turned,
    "sizes": _sizes,
    "positions": _positions,
    "list of chunks": lambda net, x: torch.cat([p * i for i, p in enumerate(net.a(x).chunk(4, 1))], 1),
    "augmented view": lambda net, x: net.a(x).unflatten(1, (2, 4)).add_(1).flatten(1, 2),
    "state of the norm": lambda net, x: net.norm(net.a(x)) * net.norm.running_var.view(1, -1, 1, 1),
    "squared distance": lambda net, x: (net.a(x) - net.b(x)) ** 2,
    "variance": lambda net, x: net.a(x) / (x.var(1, keepdim=True) + 1).sqrt(),
    "cumulated": lambda net, x: net.a(x).cumsum(1) / 4,
    "gathered": lambda net, x: net.a(x)[:, torch.tensor([3, 1, 2, 0, 7, 5, 6, 4])],
    "unfolded": lambda net, x: F.fold(F.unfold(net.a(x), 3, padding=1), x.shape[2:], 3, padding=1),
    "batched product": lambda net, x: net.a(x) @ net.b(x).transpose(2, 3),
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
        self.a, self.b, self.tied, self.norm = conv(), conv(), tied(), settled_norm()
        self.q, self.k, self.v = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


class Network(nn.Module):
    """Branches behind one convolution, each of some parts one after the other.

    A branch that begins as the one before it shares those parts and what they compute. One that changes its input in
    place changes it for those that follow, as it does in torch.
    """

    def __init__(self, branches: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.stem = conv(3, CHANNELS)
        self.branches = nn.ModuleList()
        self.shared = [_alike(one, other) for one, other in zip([(), *branches], branches, strict=False)]
        for parts, shared in zip(branches, self.shared, strict=True):
            self.branches.append(
                nn.ModuleList(LAYERS[name]() if name in LAYERS else Part(name) for name in parts[shared:])
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([y.flatten(1) for y in self._results(x)], 1)

    def sizes(self, x: Tensor) -> list[int]:
        """How many numbers each branch returns for an image of inputs (N, 3, H, W)."""
        with torch.no_grad():
            return [y[0].numel() for y in self._results(x)]

    def _results(self, x: Tensor) -> list[Tensor]:
        computed, results = [self.stem(x)], []
        for branch, shared in zip(self.branches, self.shared, strict=True):
            del computed[shared + 1 :]
            for part in branch:  # type: ignore[attr-defined]
                computed.append(part(computed[-1]))
            results.append(computed[-1])
        return results


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """With how many names both begin; fewer than `other` has."""
    pairs = zip(one, other[:-1], strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other) - 1))


@dataclass(frozen=True)
class Case:
    """Networks by the names of their parts, all of them branches of one, and what is applied to it."""

    branches: tuple[tuple[str, ...], ...]
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
                return Network(case.branches).eval()

        return Random()

    def halves(self) -> tuple[Case, Case]:
        """The first and the second half of the branches."""
        middle = len(self.branches) // 2
        return replace(self, branches=self.branches[:middle]), replace(self, branches=self.branches[middle:])


#: Recipes, with how many of the batches of a run get each: the dear ones few.
RECIPES = {
    "": 2, "ptq": 1, "ptq(observer=minmax)": 4, "qat": 2, "low-rank(min_parameters=1)": 2, "channel-prune": 2,
    "depthwise": 2, "relu": 2, "low-rank(min_parameters=1)+ptq(observer=minmax)": 1, "fixed-point": 2,
}  # fmt: skip
#: torch cannot compute gradients of what is written into a part of a split, or over what another branch has read; only
#: recipes that trace before they train can have it.
_WITHOUT_GRADIENTS = frozenset({"written chunk", "looped chunks", "relu in place"})
_TRACING = ("ptq", "qat", "channel-prune", "fixed-point")
#: Parts that halve the sides may not follow each other for ever: of 16 pixels a pool makes one in four steps.
_HALVING = frozenset(
    name for name in (*LAYERS, *FUNCTIONS) if "pool" in name or name in ("strided", "unshuffle")
)


#: How many of the branches begin as the one before: each costs one part then, in place of two.
_FORKS = 0.7


def _large_enough(parts: Sequence[str]) -> bool:
    return sum(name in _HALVING for name in parts) <= 1


def cases(networks: int, recipes: Sequence[str]) -> st.SearchStrategy[Case]:
    """That many networks of one to three parts each, with one of some recipes.

    They are drawn from a seed: hypothesis by itself begins with the simplest case, the same part in every network.
    """

    def draw(recipe: str, seed: int) -> Case:
        chance = random.Random(f"{recipe} {seed}")
        excluded = frozenset() if recipe.startswith(_TRACING) else _WITHOUT_GRADIENTS
        names = sorted({*LAYERS, *FUNCTIONS} - excluded)
        # Among few parts none may be what the recipe changes.
        branches: list[tuple[str, ...]] = [("silu",)] if recipe == "relu" else []
        while len(branches) < networks:
            if branches and chance.random() < _FORKS:
                parts = (*branches[-1][: chance.randint(1, 2)], chance.choice(names))
            else:
                parts = tuple(chance.choices(names, k=chance.randint(1, 3)))
            if _large_enough(parts):
                branches.append(parts)
        return Case(tuple(branches), recipe, seed % 4)

    return st.builds(draw, st.sampled_from(list(recipes)), st.integers(0, 1 << 32))
