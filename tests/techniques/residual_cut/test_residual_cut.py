"""`residual-cut`: which links there are, what cutting them costs, and what takes over."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from support.surgery_nets import context, parameters, relative_error, small_unet, smooth
from zoo.architectures.timm_models import TimmArchitecture
from zoo.architectures.unet_module import UNet
from zoo.contracts import Context
from zoo.errors import UnknownIdError, UsageError, ZooError
from zoo.surgery import summed_inputs, trace
from zoo_techniques.residual_cut import ResidualCut
from zoo_techniques.residual_cut.links import errors_without, held_at_once, residual_links, skip_links
from zoo_techniques.residual_cut.technique import ResidualCutConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def cut(model: nn.Module, ctx: Context | None = None, **options: Any) -> nn.Module:
    technique = ResidualCut(ResidualCutConfig(**options))
    return technique.rewrite(copy.deepcopy(model).eval(), ctx or context())


def sums(model: nn.Module) -> int:
    """How many sums of two tensors a network has."""
    return sum(summed_inputs(node) is not None for node in trace(copy.deepcopy(model), smooth(1)).graph.nodes)


class Linear(nn.Module):
    """x + norm(conv(x)): the link can be taken over exactly."""

    def __init__(self, conv: nn.Conv2d, *, norm: bool) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels) if norm else nn.Identity()
        if norm:
            nn.init.normal_(self.norm.weight, 1, 0.3)
            nn.init.normal_(self.norm.bias)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x))


class Block(nn.Module):
    """act(x + conv2(act(conv1(x)))): two layers beside the link."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x + self.conv2(functional.leaky_relu(self.conv1(x), 0.2)), 0.2)


def blocks() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), Block(6), Block(6), Block(6), nn.Conv2d(6, 3, 1))
    with torch.no_grad():  # the second block's input is small beside what its layers make of it
        net[1].conv2.weight *= 0.01
        net[1].conv2.bias.zero_()
        net[2].conv2.weight *= 20
    return net.eval()


# ------------------------------------------------------------------------------------------------------- exact


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3, padding=1),
        nn.Conv2d(6, 6, 1, bias=False),
        nn.Conv2d(6, 6, (3, 5), padding=(1, 2), groups=2),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6, bias=False),
        nn.Conv2d(6, 6, 3, padding="same", padding_mode="reflect"),
    ],
    ids=["3x3", "1x1", "grouped", "dilated depthwise", "reflecting"],
)
def test_a_linear_convolution_takes_the_link_over_exactly(conv: nn.Conv2d, norm: bool) -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1), Linear(copy.deepcopy(conv), norm=norm), nn.ReLU()
    ).eval()
    ctx = context()
    found = cut(net, ctx)
    assert relative_error(found, net, smooth(2, seed=5)) < 1e-5
    assert (sums(net), sums(found)) == (1, 0)
    assert parameters(found) == parameters(net)
    assert any("taken over exactly" in note for note in ctx.report.notes)


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(6, 6, 2, padding="same"), nn.Conv2d(6, 6, 3, padding=1)], ids=["even", "other input"]
)
def test_what_cannot_take_the_link_exactly_is_fitted(conv: nn.Conv2d) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.conv = nn.Conv2d(4, 6, 3, padding=1), conv

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return x + self.conv(functional.leaky_relu(x, 0.2) if conv.kernel_size == (3, 3) else x)

    net, unseen, ctx = Net().eval(), smooth(2, seed=5), context()
    found = cut(net, ctx)
    assert sums(found) == 0
    assert relative_error(found, net, unseen) < 0.6 * relative_error(cut(net, refine=False), net, unseen)
    assert any("refitted" in note for note in ctx.report.notes)


# ----------------------------------------------------------------------------------------------------- ranking


def test_the_cheapest_link_goes_and_the_others_are_ranked_with_their_price() -> None:
    ctx = context()
    found = cut(blocks(), ctx)
    assert sums(found) == 2
    (ranking,) = (note for note in ctx.report.notes if "nothing is fitted" in note)
    order = [part.split()[0] for part in ranking.split(": ")[-1].split(", ")]
    assert order[0] == "2"
    assert order[-1] == "1"
    left = {each.layer: each.reason for each in ctx.skipped_layers}
    assert left.keys() == {"1", "3"}
    assert all("changes the output by" in reason for reason in left.values())


@pytest.mark.parametrize("net", ["resnet", "unet"])
def test_the_price_of_each_link_is_that_of_a_run_without_it(net: str) -> None:
    model = TimmArchitecture("resnet10t").build().eval() if net == "resnet" else small_unet()
    channels = 3 if net == "resnet" else 4
    if net == "unet":  # as made, its biases alone give the output
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2 if parameter.dim() > 1 else 0)
    module = trace(model, smooth(1, channels))
    links = [link for link in residual_links(module) + skip_links(module) if not link.exact]
    batches, tried = [smooth(1, channels, seed=1), smooth(1, channels, seed=2)], []
    errors = errors_without(module, links, batches, tried.append)
    assert sorted(link.name for link in tried) == sorted([link.name for link in links] * 2)
    assert len(links) == 4
    for link in links:
        without = copy.deepcopy(module)
        node, carried, *kept = (
            next(n for n in without.graph.nodes if n.name == each.name)
            for each in (link.node, link.carried, *([link.kept] if link.kept else []))
        )
        if kept:
            node.replace_all_uses_with(kept[0])
        else:
            with without.graph.inserting_before(node):
                node.replace_input_with(carried, without.graph.call_function(torch.zeros_like, (carried,)))
        without.recompile()
        assert errors[link.name] == pytest.approx(
            relative_error(without, module, torch.cat(batches)), rel=1e-3
        )
    assert min(errors.values()) > 1e-4


def test_named_links_and_patterns_go_whatever_they_cost() -> None:
    assert sums(cut(blocks(), which=("1",))) == 2
    assert sums(cut(blocks(), which=("[13]",))) == 1
    assert sums(cut(blocks(), which=("*",))) == 0
    assert sums(cut(blocks(), count=3)) == 0


def test_fitting_makes_good_most_of_the_loss() -> None:
    net, unseen = blocks(), smooth(4, seed=9)
    bare, fitted = cut(net, which=("1",), refine=False), cut(net, which=("1",))
    assert relative_error(fitted, net, unseen) < 0.3 * relative_error(bare, net, unseen)


def test_a_convolution_behind_a_norm_is_fitted_through_it() -> None:
    class Normed(Block):
        def __init__(self, channels: int) -> None:
            super().__init__(channels)
            self.norm = nn.BatchNorm2d(channels)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(self.norm.bias)
            self.conv2.bias = None

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(self.conv2(functional.leaky_relu(self.conv1(x), 0.2)))

    net = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), Normed(6), nn.Conv2d(6, 3, 1)).eval()
    unseen = smooth(4, seed=9)
    bare = relative_error(cut(net, refine=False), net, unseen)
    assert relative_error(cut(net), net, unseen) < 0.3 * bare


def test_a_projection_beside_a_block_goes_with_its_layer() -> None:
    class Projected(Block):
        def __init__(self) -> None:
            super().__init__(6)
            self.conv1 = nn.Conv2d(4, 12, 3, padding=1)
            self.project = nn.Conv2d(4, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.project(x) + self.conv2(functional.leaky_relu(self.conv1(x), 0.2))

    net = nn.Sequential(nn.Conv2d(4, 4, 1), Projected()).eval()
    found = cut(net)
    assert parameters(net) - parameters(found) == 4 * 6 + 6


# ------------------------------------------------------------------------------------------------------- skips


def test_a_skip_connection_is_cut_with_the_channels_that_took_it() -> None:
    net, ctx = small_unet(), context()
    found = cut(net, ctx, links="skip", which=("down3.*",))
    assert found.join3.conv1.in_channels == 8
    assert parameters(net) - parameters(found) == 8 * 8 * 9
    assert found(torch.rand(1, 4, 16, 48)).shape == (1, 3, 32, 96)
    assert {each.layer for each in ctx.skipped_layers} == {"down1.act2", "down2.act2", "down4.act2"}


def test_cutting_all_long_links_lets_memory_go() -> None:
    net = UNet(widths=(24, 24, 24, 24, 24)).eval()
    found = cut(net, links="skip", count=4, refine=False)
    # while two stages are joined: both, and their concatenation; without the links: what one layer takes and gives
    assert held_at_once(trace(net, smooth(1))) == 4 * 24 * 32 * 32 * 4
    assert held_at_once(trace(found, smooth(1))) == 2 * 24 * 32 * 32 * 4


def test_memory_held_at_once_agrees_with_a_hand_count() -> None:
    plain = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    assert held_at_once(trace(plain, smooth(1))) == (8 + 8) * 32 * 32 * 4
    linked = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), Block(6))
    # while the second convolution runs: what the link carries, 12 channels in, 6 out
    assert held_at_once(trace(linked, smooth(1))) == (6 + 12 + 12) * 32 * 32 * 4


# ---------------------------------------------------------------------------------------------------- refusals


def test_a_network_without_links_is_refused_by_name() -> None:
    with pytest.raises(ZooError, match="residual-cut finds no residual links in UNet"):
        cut(small_unet())
    with pytest.raises(ZooError, match="residual-cut finds no skip links in Sequential"):
        cut(blocks(), links="skip")


def test_an_unknown_block_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownIdError, match=r"'down3.act'; did you mean 'down3.act2'") as refusal:
        cut(small_unet(), links="skip", which=("down3.act",))
    assert "down1.act2, " in str(refusal.value.hint) or "down4.act2, " in str(refusal.value.hint)


def test_more_links_than_there_are_is_refused_with_their_number() -> None:
    with pytest.raises(UsageError, match="has 3 links that could be cut, not 4"):
        cut(blocks(), count=4)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "test_vit"])
def test_networks_of_timm_lose_a_link(name: str) -> None:
    net = TimmArchitecture(name).build().eval()
    example = torch.rand(1, 3, *TimmArchitecture(name).input.example)
    ctx = Context(TimmArchitecture(name), example, lambda: [example])
    found = cut(net, ctx)
    with torch.no_grad():
        assert found(example).shape == net(example).shape
        assert not torch.equal(found(example), net(example))
    before, after = (
        sum(summed_inputs(n) is not None for n in trace(copy.deepcopy(m), example).graph.nodes)
        for m in (net, found)
    )
    assert before - after == 1
