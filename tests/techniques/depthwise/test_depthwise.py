"""`depthwise` on the U-Net, on timm's networks and on awkward modules."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from support.rewriting import context, mean_error, reasons, smooth
from zoo.architectures.timm_models import TimmArchitecture
from zoo.architectures.unet import LighterUNetArchitecture, LightUNetArchitecture, UNetArchitecture
from zoo.architectures.unet_module import DoubleConv
from zoo.contracts import Context, SilentReporter
from zoo.errors import UsageError, ZooError
from zoo.modules.separable import SeparableConv2d
from zoo.options import parse_options
from zoo.surgery import group_by_block
from zoo_techniques.depthwise import Depthwise
from zoo_techniques.depthwise.technique import DepthwiseConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def rewritten(model: nn.Module, ctx: Context, **options: Any) -> nn.Module:
    return Depthwise(DepthwiseConfig(**options)).rewrite(copy.deepcopy(model), ctx)


def replaced(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, SeparableConv2d)]


def small_net() -> nn.Module:
    blocks = (DoubleConv(3, 12, (False, False)), DoubleConv(12, 16, (False, False)))
    return nn.Sequential(*blocks, nn.Conv2d(16, 5, 1)).eval()


# ------------------------------------------------------------------------------------------------- the U-Net


@pytest.mark.parametrize(
    ("which", "target", "parameters"),
    [("second", LightUNetArchitecture, 4_285_676), ("all", LighterUNetArchitecture, 1_513_812)],
)
def test_unet_becomes_the_published_light_nets(
    which: str, target: type[UNetArchitecture], parameters: int
) -> None:
    example = torch.rand(1, 4, 32, 48)
    ctx = context(example)
    net = rewritten(UNetArchitecture().build().eval(), ctx, which=which)
    assert sum(p.numel() for p in net.parameters()) == parameters
    published = target().build().eval()
    shapes = {name: value.shape for name, value in published.state_dict().items()}
    assert {name: value.shape for name, value in net.state_dict().items()} == shapes
    assert list(net.state_dict()) == list(shapes)
    published.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(published(example), net(example))
    assert {"up1", "up2", "up3", "up4", "head"} <= reasons(ctx).keys()


def test_first_of_each_stage_is_the_other_half() -> None:
    net = rewritten(UNetArchitecture().build(), context(torch.rand(1, 4, 16, 16)), which="first")
    assert sum(p.numel() for p in net.parameters()) == 4_988_884
    assert {name.rpartition(".")[2] for name in replaced(net)} == {"conv1"}


# ---------------------------------------------------------------------------------------------- initialisation


def test_fitting_to_activations_loses_much_less_than_the_weights_alone() -> None:
    dense, data = small_net(), smooth(12)
    plain = rewritten(dense, context(data[:1]))
    fitted = rewritten(dense, context(data[:1], lambda: data[:8].split(4)))
    assert mean_error(fitted, dense, data[8:]) < 0.5 * mean_error(plain, dense, data[8:])


def test_refinement_can_be_switched_off() -> None:
    dense, data = small_net(), smooth(2)
    off = rewritten(dense, context(data[:1], lambda: [data]), refine=False)
    plain = rewritten(dense, context(data[:1]))
    assert all(torch.equal(a, b) for a, b in zip(off.parameters(), plain.parameters(), strict=True))


def test_result_depends_on_the_seed_alone() -> None:
    """More pixels than positions used, so that positions are drawn."""
    dense, data = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)), smooth(2, size=100)
    torch.manual_seed(1)
    first = rewritten(dense, context(data[:1], lambda: [data], seed=3)).state_dict()
    torch.manual_seed(2)
    second = rewritten(dense, context(data[:1], lambda: [data], seed=3)).state_dict()
    other = rewritten(dense, context(data[:1], lambda: [data], seed=4)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_no_more_pictures_are_drawn_than_asked_for() -> None:
    drawn = []

    def endless() -> Iterator[Tensor]:
        for number in itertools.count():
            drawn.append(number)
            yield smooth(4)

    rewritten(small_net(), context(smooth(1), endless), images=6)
    assert drawn == [0, 1]


def test_modes_gradients_and_buffers_are_as_before() -> None:
    dense = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3).requires_grad_(False)
    ).train()
    dense[1].eval()
    net = rewritten(dense, context(smooth(1), lambda: [smooth(4)]))
    assert [net.training, net[0].training, net[1].training] == [True, True, False]
    assert torch.equal(net[1].running_mean, dense[1].running_mean)
    assert all(p.requires_grad for p in net[0].parameters())
    assert not any(p.requires_grad for p in net[3].parameters())


def test_every_layer_is_reported_as_it_is_done() -> None:
    class Recorder(SilentReporter):
        def __init__(self) -> None:
            super().__init__()
            self.layers: list[Any] = []

        def advance(self, amount: float = 1, **figures: float | str) -> None:
            self.layers.append(figures["layer"])
            assert 0 <= figures["error"] < 1

    ctx = context(smooth(1), lambda: [smooth(2)])
    ctx.report = Recorder()
    assert replaced(rewritten(small_net(), ctx)) == ctx.report.layers


# ------------------------------------------------------------------------------------------ which convolutions


@pytest.mark.parametrize(
    ("names", "grouped"),
    [
        (["a.conv1", "a.conv2", "b.conv1", "b.conv2"], [["a.conv1", "a.conv2"], ["b.conv1", "b.conv2"]]),
        (["stem", "a.0.conv", "a.1.conv"], [["stem"], ["a.0.conv", "a.1.conv"]]),
        (["0", "2", "5", "7"], [["0", "2", "5", "7"]]),
        (["x.deep.only"], [["x.deep.only"]]),
        ([], []),
    ],
)
def test_convolutions_of_one_block_belong_together(names: list[str], grouped: list[list[str]]) -> None:
    assert group_by_block(names) == grouped


def test_first_and_second_share_all_between_them() -> None:
    dense, found = TimmArchitecture("resnet18").build(), {}
    for which in ("first", "second", "all"):
        found[which] = set(replaced(rewritten(dense, context(torch.rand(1, 3, 32, 32)), which=which)))
    assert found["first"].isdisjoint(found["second"])
    assert found["first"] | found["second"] == found["all"]
    assert found["second"] == {f"layer{i}.{j}.conv2" for i in (1, 2, 3, 4) for j in (0, 1)}


class Awkward(nn.Module):
    """One convolution for each reason to leave one alone, and one that can be replaced."""

    class Same(nn.Conv2d):
        pass

    def __init__(self) -> None:
        super().__init__()
        self.good = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.transposed = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.subclass = self.Same(8, 8, 3, padding=1)
        self.single = nn.Conv2d(8, 1, 3, padding=1)
        self.small = nn.Conv2d(8, 8, 2)
        self.hooked = nn.utils.spectral_norm(nn.Conv2d(8, 8, 3))
        self.parametrized = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
        self.tied = nn.Conv2d(8, 8, 3)
        self.tied_too = nn.Conv2d(8, 8, 3)
        self.tied_too.weight = self.tied.weight
        self.broken = nn.Conv2d(8, 8, 3)
        self.broken.weight.data[0, 0, 0, 0] = torch.nan
        self.unused = nn.Conv2d(8, 8, 3)
        self.functional = nn.Conv2d(8, 8, 3)
        self.line = nn.Conv1d(8, 8, 3)
        self.hidden = nn.Conv2d(8, 8, 3)
        self.backdoor = [self.hidden]

    def forward(self, x: Tensor) -> Tensor:
        x = self.transposed(self.pointwise(self.grouped(self.good(x))))
        x = self.subclass(x) + self.single(x)
        x = self.parametrized(self.hooked(self.small(x)))
        x = self.tied_too(self.tied(x)) + self.broken(self.backdoor[0](x)).nan_to_num()
        return functional.conv2d(x, self.functional.weight)


def test_everything_left_alone_is_named_with_its_reason() -> None:
    ctx = context(smooth(1))
    net = rewritten(Awkward(), ctx, min_kernel=3)
    assert replaced(net) == ["good"]
    found = reasons(ctx)
    wanted = {
        "grouped": "groups=2",
        "pointwise": "1x1",
        "transposed": "ConvTranspose2d",
        "subclass": "Same is not a plain Conv2d",
        "single": "no fewer parameters",
        "small": "min_kernel=3",
        "hooked": "hooks",
        "parametrized": "not a plain Conv2d",
        "tied": "shares its parameters with 'tied_too'",
        "tied_too": "shares its parameters with 'tied'",
        "broken": "finite",
        "unused": "does not call it",
        "functional": "does not call it",
        "line": "Conv1d",
        "hidden": "past its registered name",
    }
    assert found.keys() == wanted.keys()
    for layer, reason in wanted.items():
        assert reason in found[layer]
    assert {left.technique for left in ctx.skipped_layers} == {"depthwise"}


def test_network_without_candidates_comes_back_unchanged() -> None:
    dense = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4))
    ctx = context(smooth(1), lambda: [smooth(1)])
    net = rewritten(dense, ctx)
    assert replaced(net) == []
    assert reasons(ctx).keys() == {"0", "1"}


# ----------------------------------------------------------------------------------------- awkward networks


class Shared(nn.Module):
    """One convolution, two names, three calls, one of them by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.alias = nn.Sequential(self.again, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.alias(self.stem(x)))
        return self.again(input=x)


def test_shared_module_is_replaced_once_everywhere() -> None:
    dense, data = Shared().eval(), smooth(6)
    net = rewritten(dense, context(data[:1], lambda: [data[:4]]))
    assert isinstance(net.again, SeparableConv2d)
    assert net.alias[0] is net.again
    plain = rewritten(dense, context(data[:1]))
    assert mean_error(net, dense, data[4:]) < mean_error(plain, dense, data[4:])


def test_traced_graph_is_rewritten_like_its_module() -> None:
    dense, data = small_net(), smooth(2)
    graph = rewritten(fx.symbolic_trace(dense), context(data[:1], lambda: [data]))
    module = rewritten(dense, context(data[:1], lambda: [data]))
    with torch.no_grad():
        assert torch.equal(graph(data), module(data))


def test_network_that_is_one_convolution() -> None:
    net = rewritten(nn.Conv2d(3, 4, 3), context(smooth(1), lambda: [smooth(1)]))
    assert isinstance(net, SeparableConv2d)


def test_images_without_a_batch_dimension_inside_the_network() -> None:
    class Unbatched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.conv(image) for image in x])

    data = smooth(1)
    net = rewritten(Unbatched(), context(data, lambda: [data, data]))
    assert replaced(net) == ["conv"]


def test_layer_that_only_some_batches_reach() -> None:
    class Exits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.second = nn.Conv2d(6, 6, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            out = self.first(x)
            return self.second(out) if x.mean() > 0.3 else out

    data = smooth(8)
    dense = Exits().eval()
    net = rewritten(dense, context(data[:1], lambda: [0 * data[:4], data[:4]]))
    assert replaced(net) == ["first", "second"]
    assert mean_error(net, dense, data[4:]) < mean_error(rewritten(dense, context(data[:1])), dense, data[4:])


class Reads(nn.Module):
    """Reads the weight of a convolution that it calls too."""

    def __init__(self, read: Callable[[nn.Conv2d], Tensor]) -> None:
        super().__init__()
        self.read = read
        self.conv, self.other = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(x)) / self.read(self.conv).norm()


def test_a_layer_whose_weight_the_network_reads_besides_stays() -> None:
    ctx, data = context(smooth(1)), smooth(2)
    dense = Reads(lambda conv: conv.weight).eval()
    net = rewritten(dense, ctx)
    assert replaced(net) == ["other"]
    assert [(left.layer, left.reason) for left in ctx.skipped_layers] == [
        ("conv", "the network reads its weight past it")
    ]
    assert type(net.conv) is type(dense.conv) is nn.Conv2d
    assert mean_error(net, dense, data) > 0


def test_network_that_needs_the_dense_weight_fails_with_a_clear_error() -> None:
    with pytest.raises(ZooError, match=r"depthwise the network no longer runs.*weight"):
        rewritten(Reads(lambda conv: dict(conv.named_parameters())["weight"]), context(smooth(1)))


@pytest.mark.parametrize("name", ["mobilenetv2_100", "efficientnet_b0"])
def test_networks_already_depthwise_change_at_the_stem_alone(name: str) -> None:
    ctx = context(torch.rand(1, 3, 64, 64), lambda: [smooth(2, size=64)])
    dense = TimmArchitecture(name).build()
    net = rewritten(dense, ctx)
    assert replaced(net) == ["conv_stem"]
    with torch.no_grad():
        assert net(torch.rand(2, 3, 64, 64)).isfinite().all()
    assert sum("grouped" in reason for reason in reasons(ctx).values()) == 17 - (name == "efficientnet_b0")


# ----------------------------------------------------------------------------------------------------- options


def test_options_are_read_from_a_recipe() -> None:
    config = parse_options(
        "depthwise", DepthwiseConfig, {"which": "second", "min-kernel": "3", "refine": "no"}
    )
    assert config == DepthwiseConfig(which="second", min_kernel=3, refine=False)
    for wrong in ({"which": "third"}, {"images": "0"}, {"min_kernel": "1"}):
        with pytest.raises(UsageError):
            parse_options("depthwise", DepthwiseConfig, wrong)
