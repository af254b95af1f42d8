"""collapse folds what is one convolution, exactly, in any network; and leaves apart what is not."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from zoo.contracts import Context, SkippedLayer
from zoo.errors import NoEffectError
from zoo.testing import technique_checks
from zoo_superres.architectures import SesrM3Architecture
from zoo_superres.collapse import Collapse


class SmallSesr(SesrM3Architecture):
    """Less wide in training, which makes no difference afterwards."""

    expansion = 32

    def __init__(self) -> None:
        super().__init__()
        self.input = replace(self.input, example=(32, 32))


TestCollapse = technique_checks(Collapse, architecture=SmallSesr())


class Branches(nn.Module):
    """A convolution, a smaller one and a batch norm of the same tensor, as RepVGG is trained."""

    def __init__(self, channels: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.wide = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(channels)
        )
        self.narrow = nn.Sequential(
            nn.Conv2d(channels, channels, 1, stride, groups=groups), nn.Identity(), nn.BatchNorm2d(channels)
        )
        self.norm = nn.BatchNorm2d(channels) if stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.wide(x), self.narrow(x)] + ([self.norm(x)] if self.norm is not None else [])
        return torch.relu(sum(parts))


class Link(nn.Module):
    """What is inside, added to its input."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def folded(net: nn.Module, channels: int = 8) -> tuple[nn.Module, list[SkippedLayer]]:
    """The network after the rewrite, which computes what it did before, and what was left apart."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        inputs = torch.randn(2, channels, 13, 11, generator=generator)
        context = Context(None, inputs)
        wanted = net.eval()(inputs)
        rewritten = Collapse().rewrite(net, context)
        computed = rewritten(inputs)
    assert computed.shape == wanted.shape
    assert (computed - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    return rewritten, context.skipped_layers


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [each for each in net.modules() if isinstance(each, nn.Conv2d)]


@pytest.mark.parametrize(
    ("net", "kernel", "groups"),
    [
        (nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(64, 8, 1)), 3, 1),
        (nn.Sequential(nn.Conv2d(8, 64, 1, bias=False), nn.Conv2d(64, 8, 3, padding=1)), 3, 1),
        (nn.Sequential(nn.Conv2d(8, 64, 1), nn.BatchNorm2d(64), nn.Conv2d(64, 8, 3)), 3, 1),
        (nn.Sequential(nn.Conv2d(8, 64, 3, 2, 1), nn.Dropout(), nn.Conv2d(64, 8, 2)), 5, 1),
        (nn.Sequential(nn.Conv2d(8, 64, 3, dilation=2, padding=2), nn.Conv2d(64, 8, 1, 2)), 3, 1),
        (nn.Sequential(nn.Conv2d(8, 64, 3, groups=4), nn.Conv2d(64, 8, 1, groups=4)), 3, 4),
        (nn.Sequential(nn.Conv2d(8, 64, 3, groups=2), nn.Conv2d(64, 8, 1)), 3, 1),
        (nn.Sequential(nn.Conv2d(8, 64, 1), nn.Conv2d(64, 64, 3, groups=64), nn.Conv2d(64, 8, 1)), 3, 1),
        (Link(nn.Conv2d(8, 8, 3, padding="same")), 3, 1),
        (Link(nn.Conv2d(8, 8, 3, padding=1, groups=8)), 3, 8),
        (Link(nn.Conv2d(8, 64, 5, padding=2, bias=False), nn.Conv2d(64, 8, 1)), 5, 1),
        (Branches(8), 3, 1),
        (Branches(8, stride=2), 3, 1),
        (Branches(8, groups=4), 3, 4),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, nn.Module) else str(value),
)
def test_a_linear_part_becomes_one_convolution(net: nn.Module, kernel: int, groups: int) -> None:
    rewritten, apart = folded(net)
    (conv,) = convolutions(rewritten)
    assert (conv.kernel_size[0], conv.groups) == (kernel, groups)
    assert not [each for each in rewritten.modules() if isinstance(each, nn.BatchNorm2d)]
    assert not apart


def test_a_whole_network_of_branches_keeps_only_its_convolutions() -> None:
    net = nn.Sequential(Branches(8), Link(Branches(8)), Branches(8, stride=2), nn.Conv2d(8, 4, 1))
    assert [conv.kernel_size for conv in convolutions(folded(net)[0])] == [(3, 3)] * 3 + [(1, 1)]


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 8, 3, padding=1)], "beyond the border"),
        ([nn.Conv2d(64, 64, 1), nn.Conv2d(64, 8, 3, padding=1)], "differs at the border"),
        ([nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.Conv2d(64, 64, 1)], "more multiplications"),
        ([nn.Conv2d(64, 4, 3, padding=1), nn.Conv2d(4, 64, 1)], "more multiplications"),
    ],
)
def test_what_would_not_be_the_same_or_cost_more_stays_apart_and_is_reported(
    layers: list[nn.Module], reason: str
) -> None:
    foldable = [nn.Conv2d(8, 128, 3, padding=1), nn.Conv2d(128, 64, 1), nn.ReLU()]
    rewritten, apart = folded(nn.Sequential(*foldable, *layers))
    assert len(convolutions(rewritten)) == 3
    assert [(each.technique, each.layer) for each in apart] == [("collapse", "4")]
    assert reason in apart[0].reason


def test_a_layer_whose_value_is_needed_elsewhere_stays() -> None:
    class Tapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expand, self.project = nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(64, 8, 1)
            self.link = Link(nn.Conv2d(8, 8, 1))

        def forward(self, x: Tensor) -> Tensor:
            wide = self.expand(x)
            return self.link(self.project(wide)) * wide.mean()

    assert len(convolutions(folded(Tapped())[0])) == 2


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(8, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 8, 1)],
        [nn.Conv2d(8, 64, 3, padding=1, padding_mode="reflect"), nn.Conv2d(64, 8, 1)],
        [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()],
    ],
)
def test_a_network_without_linear_convolutions_is_refused(layers: list[nn.Module]) -> None:
    with pytest.raises(NoEffectError, match="collapse finds no convolutions"):
        folded(nn.Sequential(*layers))
