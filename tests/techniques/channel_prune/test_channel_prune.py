"""`channel-prune`: which channels hang together, what is removed, and what is left in their place."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from support.small_net import run
from support.surgery_nets import context, parameters, relative_error, shapes, small_unet, smooth
from zoo.architectures.timm_models import TimmArchitecture
from zoo.artifacts.artifact import open_artifact
from zoo.contracts import Context
from zoo.cost import model_cost
from zoo.errors import UsageError, ZooError
from zoo.options import parse_options
from zoo.surgery import trace
from zoo_techniques.channel_prune import ChannelPrune
from zoo_techniques.channel_prune.technique import ChannelPruneConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pruned(model: nn.Module, ctx: Context | None = None, **options: Any) -> nn.Module:
    options = {"round_to": 1, "refine": False, **options}
    return ChannelPrune(ChannelPruneConfig(**options)).rewrite(copy.deepcopy(model).eval(), ctx or context())


def reasons(ctx: Context) -> dict[str, str]:
    return {left.layer: left.reason for left in ctx.skipped_layers}


class Net(nn.Module):
    """Layers by name and a forward pass given as a function of them and the input."""

    def __init__(self, forward: Any, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self, x)


def conv(i: int, o: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


# ------------------------------------------------------------------------------------------------- hand counts


def test_half_the_channels_leave_a_quarter_of_the_inner_weights() -> None:
    net = nn.Sequential(conv(4, 8), nn.ReLU(), conv(8, 16), nn.ReLU(), conv(16, 5))
    found = pruned(net, ratio=0.5)
    assert parameters(found) == (4 * 4 * 9 + 4) + (4 * 8 * 9 + 8) + (8 * 5 * 9 + 5)
    macs = (4 * 4 + 4 * 8 + 8 * 5) * 9 * 32 * 32
    assert model_cost(found, smooth(1)).macs == macs


def test_the_unet_with_half_the_channels_is_the_unet_of_half_the_widths() -> None:
    from zoo.architectures.unet_module import UNet

    assert shapes(pruned(small_unet(), ratio=0.5)) == shapes(UNet(widths=(2, 4, 4, 6, 8)))


@pytest.mark.parametrize("share", [0.7, 0.4])
@pytest.mark.parametrize("scope", ["layer", "net"])
def test_a_share_of_the_multiplications_is_kept_and_not_much_less(share: float, scope: str) -> None:
    net, example = small_unet(), smooth(1)
    left = model_cost(pruned(net, macs=share, scope=scope), example).macs / model_cost(net, example).macs
    assert share - 0.08 < left <= share


def test_channels_are_kept_in_the_multiples_asked_for() -> None:
    net = nn.Sequential(conv(4, 12), nn.ReLU(), conv(12, 24), nn.ReLU(), conv(24, 5))
    found = pruned(net, ratio=0.4, round_to=8)
    assert [found[0].out_channels, found[2].out_channels] == [8, 16]


# --------------------------------------------------------------------------------------- what hangs together


def same_shape_and_smaller(net: nn.Module, example: Tensor | None = None, **options: Any) -> nn.Module:
    """Prune, and check that the result runs, computes the same shape and is smaller in every respect."""
    net.eval()
    example = smooth(1) if example is None else example
    found = pruned(net, context(example, [example]), **options)
    with torch.no_grad():
        assert found(example).shape == net(example).shape
    assert model_cost(found, example).macs < model_cost(net, example).macs
    assert parameters(found) < parameters(net)
    trace(copy.deepcopy(found), example)
    return found


def test_partners_of_a_concatenation_lose_their_own_channels() -> None:
    net = Net(
        lambda m, x: m.last(torch.cat([m.one(x), m.other(x)], 1)),
        one=conv(4, 6), other=conv(4, 10), last=conv(16, 3),
    )  # fmt: skip
    with torch.no_grad():  # which ones matter is plain
        net.one.weight[[0, 2, 4]] *= 1e-3
        net.other.weight[[1, 3, 5, 7, 9]] *= 1e-3
    kept = net.last.weight[:, [1, 3, 5, 6, 8, 10, 12, 14]]
    found = same_shape_and_smaller(net, importance="l2")
    assert (found.one.out_channels, found.other.out_channels) == (3, 5)
    assert torch.equal(found.last.weight, kept)


@pytest.mark.parametrize("scope", ["layer", "net"])
def test_a_gate_over_a_concatenation_takes_no_layer_whole(scope: str) -> None:
    net = Net(
        lambda n, x: n.last((y := torch.cat([n.weak(x), n.strong(x)], 1)) * n.gate(y).sigmoid()),
        weak=conv(4, 8), strong=conv(4, 8), gate=conv(16, 16, 1), last=conv(16, 3),
    )  # fmt: skip
    with torch.no_grad():
        net.weak.weight.mul_(1e-3)
    found = shapes(pruned(net, ratio=0.5, round_to=4, scope=scope))
    assert found["weak.weight"][0] == 4
    assert found["strong.weight"][0] == 4
    assert found["gate.weight"][:2] == (8, 8)


def test_both_sides_of_a_sum_lose_the_same_channels() -> None:
    net = Net(
        lambda m, x: m.last(m.one(x) + m.two(functional.relu(m.one(x)))),
        one=conv(4, 8), two=conv(8, 8), last=conv(8, 3),
    )  # fmt: skip
    found = same_shape_and_smaller(net)
    assert [found.one.out_channels, found.two.in_channels, found.two.out_channels] == [4, 4, 4]


def test_channels_that_become_one_pixel_go_together() -> None:
    net = Net(
        lambda m, x: m.last(m.shuffle(m.wide(x))),
        wide=conv(4, 24),
        shuffle=nn.PixelShuffle(2),
        last=conv(6, 3),
    )
    original = net.wide.weight.clone()
    found = same_shape_and_smaller(net)
    assert (found.wide.out_channels, found.last.in_channels) == (12, 3)
    rows = [int((original == row).flatten(1).all(1).nonzero()) for row in found.wide.weight]
    assert all(rows[i : i + 4] == list(range(rows[i], rows[i] + 4)) for i in range(0, 12, 4))
    assert all(rows[i] % 4 == 0 for i in range(0, 12, 4))


def test_the_last_convolution_before_a_shuffle_keeps_its_outputs() -> None:
    ctx = context()
    found = pruned(small_unet(), ctx)
    assert found.head.out_channels == 12
    assert "needs all of its channels" in reasons(ctx)["head"]


def test_groups_lose_the_same_channels_each() -> None:
    net = nn.Sequential(conv(4, 16), nn.ReLU(), conv(16, 16, groups=4), nn.ReLU(), conv(16, 3))
    found = same_shape_and_smaller(net)
    assert (found[2].in_channels, found[2].out_channels, found[2].groups) == (8, 8, 4)
    assert found[2].weight.shape == (8, 2, 3, 3)


@pytest.mark.parametrize("many", [1, 2])
def test_a_depthwise_convolution_follows_what_goes_in(many: int) -> None:
    net = nn.Sequential(
        conv(4, 8), conv(8, 8 * many, groups=8), nn.BatchNorm2d(8 * many), conv(8 * many, 3, 1)
    )
    found = same_shape_and_smaller(net)
    assert (found[1].groups, found[1].in_channels, found[1].out_channels) == (4, 4, 4 * many)
    assert found[2].running_mean.shape == (4 * many,)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_loses_inputs_and_outputs(groups: int) -> None:
    net = nn.Sequential(conv(4, 8), nn.ConvTranspose2d(8, 12, 2, stride=2, groups=groups), conv(12, 3))
    found = same_shape_and_smaller(net)
    assert found[1].weight.shape == (4, 6 // groups, 2, 2)


def test_an_se_block_is_cut_with_the_channels_it_scales() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.first(x)
        return m.last(x * m.expand(m.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid())

    net = Net(forward, first=conv(4, 8), reduce=conv(8, 4, 1), expand=conv(4, 8, 1), last=conv(8, 3))
    found = same_shape_and_smaller(net)
    assert [found.first.out_channels, found.reduce.out_channels, found.expand.out_channels] == [4, 2, 4]


def test_a_matrix_after_flattening_loses_each_channels_pixels() -> None:
    net = nn.Sequential(
        conv(4, 8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 3)
    )
    found = same_shape_and_smaller(net)
    assert (found[3].in_features, found[3].out_features) == (16, 5)


def test_a_number_of_channels_that_shapes_another_tensor_stays() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.first(x)
        batch, channels, high, wide = x.shape
        heads = functional.unfold(m.value(x), 1).reshape(batch, 2, channels // 2, high, wide)
        return m.last(m.wide(m.norm(x + heads.flatten(1, 2))).relu())

    net = Net(
        forward, first=conv(4, 8), value=conv(8, 8), norm=nn.BatchNorm2d(8), wide=conv(8, 8), last=conv(8, 3)
    )
    found = same_shape_and_smaller(net)
    assert (found.first.out_channels, found.value.out_channels) == (8, 8)
    assert (found.wide.out_channels, found.last.in_channels) == (4, 4)


@pytest.mark.parametrize("asked", ["shape", "size", "axis"])
def test_a_tensor_that_is_flattened_to_the_number_of_channels_of_another_is_cut_like_it(asked: str) -> None:
    def channels(x: Tensor) -> Any:
        return {"shape": lambda: x.shape[1], "size": lambda: x.size()[1], "axis": lambda: x.size(-3)}[asked]()

    def forward(m: Net, x: Tensor) -> Tensor:
        one, other = m.one(x), m.other(x)
        return (
            m.last(other.mean((2, 3), keepdim=True).reshape(x.shape[0], channels(one))) + m.head(one).mean()
        )

    net = Net(forward, one=conv(4, 8), other=conv(4, 8), last=nn.Linear(8, 3), head=conv(8, 1))
    with torch.no_grad():  # each would keep other channels if it were alone
        net.one.weight[:4] *= 10
        net.other.weight[4:] *= 10
    found = same_shape_and_smaller(net)
    assert (found.one.out_channels, found.other.out_channels, found.last.in_features) == (4, 4, 4)


def test_a_number_of_channels_in_the_arithmetic_stays_and_the_length_of_a_side_ties_nothing() -> None:
    def scaled(m: Net, x: Tensor) -> Tensor:
        x = m.first(x)
        return m.last(x * x.shape[1] ** -0.5)

    def averaged(m: Net, x: Tensor) -> Tensor:
        x = m.first(x)
        return m.last(x / x.shape[2] / x.size(3) + x.shape[2:].numel() + x.dim())

    for forward, kept in ((scaled, 8), (averaged, 4)):
        net = Net(forward, first=conv(4, 8), last=conv(8, 16), out=conv(16, 3))
        net._run = lambda m, x, forward=forward: m.out(forward(m, x))
        assert same_shape_and_smaller(net).first.out_channels == kept


def test_a_chunked_gate_is_cut_in_step() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        a, b = m.first(x).chunk(2, dim=1)
        return m.last(a * b.sigmoid())

    net = Net(forward, first=conv(4, 12), last=conv(6, 3))
    found = same_shape_and_smaller(net)
    assert (found.first.out_channels, found.last.in_channels) == (6, 3)


def test_a_loose_parameter_is_cut_along_its_channels() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = conv(4, 8), conv(8, 3)
            self.gamma = nn.Parameter(torch.rand(8, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.gamma * self.first(x))

    found = same_shape_and_smaller(Scaled())
    assert found.gamma.shape == (4, 1, 1)
    assert "gamma" in dict(found.named_parameters())


def test_a_layer_that_is_called_twice_loses_the_same_channels_at_both_calls() -> None:
    net = Net(
        lambda m, x: m.last(m.again(m.again(m.first(x)).relu())),
        first=conv(4, 8),
        again=conv(8, 8),
        last=conv(8, 3),
    )
    found = same_shape_and_smaller(net)
    assert (found.again.in_channels, found.again.out_channels) == (4, 4)


def test_channels_behind_operators_that_mix_them_stay() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = conv(4, 8)
            self.norm = nn.LayerNorm(8)
            self.qkv = nn.Linear(8, 24)
            self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x).flatten(2).transpose(1, 2)
            q, k, v = self.qkv(self.norm(x)).reshape(x.shape[0], -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
            x = x + functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return x + self.fc2(functional.gelu(self.fc1(x)))

    net = Attention().eval()
    ctx = context(smooth(1, size=8), [smooth(1, size=8)])
    found = pruned(net, ctx)
    assert (found.fc1.out_features, found.fc2.in_features) == (8, 8)
    assert {"embed", "qkv", "fc2"} <= reasons(ctx).keys()
    assert found.qkv.weight.shape == (24, 8)


def test_tied_and_hooked_layers_keep_their_channels_and_say_so() -> None:
    net = nn.Sequential(conv(4, 8), conv(8, 8), conv(8, 8), conv(8, 8), conv(8, 6), conv(6, 3))
    net[2].weight = net[1].weight
    net[3].register_forward_hook(lambda module, inputs, output: 2 * output)
    ctx = context()
    found = pruned(net.eval(), ctx)
    assert "shares" in reasons(ctx)["1"]
    assert "hooks" in reasons(ctx)["3"]
    assert [found[0].out_channels, found[4].out_channels] == [8, 3]


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "mobilenetv3_small_050"]
)
def test_networks_of_timm_lose_channels(name: str) -> None:
    net = TimmArchitecture(name).build().eval()
    found = same_shape_and_smaller(net, torch.rand(1, 3, 64, 64))
    assert type(found) is type(net)


# ----------------------------------------------------------------------------------------- ranking and fitting


def test_channels_that_never_vary_go_without_a_loss() -> None:
    """Their constant is what the next layer's bias can take over; least squares must find that."""
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 1))
    with torch.no_grad():
        net[0].weight[::2] = 0
        net[0].bias[::2] = 1.5
        net[2].weight[[0, 1, 4]] = 0
        net[2].bias[[0, 1, 4]] = 0.7
    found, unseen = pruned(net, refine=True), smooth(2, seed=7)
    assert (found[0].out_channels, found[2].out_channels) == (4, 3)
    assert relative_error(found, net, unseen) < 1e-3
    assert relative_error(pruned(net), net, unseen) > 0.1


@pytest.mark.parametrize("importance", ["output", "taylor", "l1", "l2"])
def test_every_ranking_finds_the_channels_that_do_nothing(importance: str) -> None:
    net = nn.Sequential(conv(4, 8), nn.ConvTranspose2d(8, 8, 2, stride=2), conv(8, 3))
    with torch.no_grad():
        net[0].weight[[1, 2, 5, 6]] *= 1e-4
        net[0].bias[[1, 2, 5, 6]] = 0
        net[1].weight[:, [0, 3, 4, 7]] *= 1e-4
        net[1].bias[[0, 3, 4, 7]] = 0
    first, middle = net[0].weight[[0, 3, 4, 7]], net[1].weight[[0, 3, 4, 7]][:, [1, 2, 5, 6]]
    found = pruned(net, importance=importance)
    assert torch.equal(found[0].weight, first)
    assert torch.equal(found[1].weight, middle)


def test_batch_norms_rank_by_their_scale() -> None:
    net = nn.Sequential(conv(4, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([9.0, 1, 8, 2, 7, 3, 6, 4]))
    assert pruned(net, importance="bn")[1].weight.tolist() == [9, 8, 7, 6]
    with pytest.raises(UsageError, match="no batch norm"):
        pruned(nn.Sequential(conv(4, 8), nn.ReLU(), conv(8, 3)), importance="bn")


def test_fitting_makes_good_most_of_the_loss() -> None:
    net, unseen = small_unet(), smooth(4, seed=9)
    bare = relative_error(pruned(net, ratio=0.25), net, unseen)
    assert relative_error(pruned(net, ratio=0.25, refine=True), net, unseen) < 0.3 * bare


def test_the_result_depends_on_the_seed_alone() -> None:
    first = pruned(small_unet(), importance="taylor", refine=True).state_dict()
    torch.rand(3)
    second = pruned(small_unet(), importance="taylor", refine=True).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradients_and_modes_are_as_before() -> None:
    net = small_unet().train()
    net.down1.conv1.requires_grad_(False)
    found = ChannelPrune(ChannelPruneConfig(importance="taylor")).rewrite(net, context())
    assert not found.down1.conv1.weight.requires_grad
    assert found.down2.conv1.weight.requires_grad
    assert all(parameter.grad is None for parameter in found.parameters())


# ------------------------------------------------------------------------------------------------------ refusals


def test_a_network_without_inner_channels_is_refused_by_name() -> None:
    with pytest.raises(ZooError, match="channel-prune finds no channels in Sequential"):
        pruned(nn.Sequential(conv(4, 3)))


def test_too_small_a_share_is_refused_with_the_least_there_is() -> None:
    with pytest.raises(UsageError, match=r"cannot bring the network down to 0.01") as refusal:
        pruned(small_unet(), macs=0.01)
    least = float(str(refusal.value.hint).split("macs=")[1].split()[0])
    pruned(small_unet(), macs=least)


def test_rounding_that_leaves_everything_is_refused() -> None:
    with pytest.raises(UsageError, match="would remove nothing") as refusal:
        pruned(small_unet(), ratio=0.1, round_to=64)
    assert "round_to=1" in str(refusal.value.hint)


def test_ratio_and_share_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="ratio or macs, not both"):
        parse_options("channel-prune", ChannelPruneConfig, {"ratio": "0.5", "macs": "0.5"})


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = conv(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) if x.mean() > 0 else x

    with pytest.raises(ZooError, match=r"torch\.fx cannot follow"):
        pruned(Decides())


# ------------------------------------------------------------------------------------------------- end to end


@pytest.mark.usefixtures("third_party")
def test_pruned_and_quantized_nets_run_in_int8(tmp_path: Path) -> None:
    outcome = run("channel-prune+qat", tmp_path / "small")
    before, narrow, quantized = outcome.files
    assert narrow.parameters < 0.3 * before.parameters
    assert narrow.macs < 0.3 * before.macs
    assert quantized.macs == narrow.macs
    artifact = open_artifact(outcome.artifact)
    artifact.verify()
    assert artifact.manifest.precision == "int8"
    assert len(artifact.metrics()["int8"]["float_layers"]) == 1
    assert np.isfinite(quantized.psnr)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.3, 0.4, 0.55])
@pytest.mark.parametrize("width", [16, 20, 64])
def test_all_layers_together_lose_the_share_that_was_asked_for(ratio: float, width: int) -> None:
    names = "abcdefgh"
    net = Net(
        lambda n, x: n.last(functools.reduce(lambda x, name: getattr(n, name)(x).relu(), names, x)),
        **{name: conv(width if index else 4, width) for index, name in enumerate(names)}, last=conv(width, 3),
    )  # fmt: skip
    found = shapes(pruned(net, ratio=ratio, round_to=4))
    kept = [found[f"{name}.weight"][0] for name in names]
    assert all(count % 4 == 0 for count in kept)
    assert max(kept) - min(kept) <= 4
    assert abs(sum(kept) - (1 - ratio) * width * len(names)) <= 2
