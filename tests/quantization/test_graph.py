"""Tracing, folding, lowering, and where quantizers go."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from support.functions import Function
from support.quantized import SmallUNet, pictures, quantized
from zoo.errors import ZooError
from zoo.quantization.fake_quant import FakeQuantize, Requantize
from zoo.quantization.fold import ShiftedRelu, fold_batch_norms
from zoo.quantization.lowering import DepthToSpace, as_pointwise, lower_operators
from zoo.quantization.quantized_layers import QuantConv2d
from zoo.surgery import propagate_shapes, trace


def randomised(net: nn.Module) -> nn.Module:
    """`net` with batch norms as training leaves them."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -1, 1), (module.running_var, 0.3, 2),
                (module.weight, -1, 2), (module.bias, -1, 1),
            ):  # fmt: skip
                tensor.detach().uniform_(low, high)
    return net.eval()


def prepared(net: nn.Module, x: Tensor) -> tuple[fx.GraphModule, list[tuple[str, str]]]:
    """`net` traced, folded and lowered, and what was left alone."""
    left: list[tuple[str, str]] = []
    module = trace(net, x)
    fold_batch_norms(module, lambda *what: left.append(what))
    propagate_shapes(module, x)
    lower_operators(module, lambda *what: left.append(what))
    return module, left


def owner_of(module: fx.GraphModule, name: str) -> FakeQuantize:
    """The quantizer that holds the scale of the value of node `name`."""
    node = next(node for node in module.graph.nodes if node.name == name)
    found = {
        getattr(child, "owner", child)
        for user in node.users
        if user.op == "call_module"
        and isinstance(child := module.get_submodule(str(user.target)), (FakeQuantize, Requantize))
    }
    assert len(found) == 1, f"{name} has {len(found)} quantizers"
    return found.pop()


# ------------------------------------------------------------------------------------------------- tracing


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


def test_a_network_that_decides_by_values_is_refused_by_name() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.ReLU(), Deciding()))
    with pytest.raises(ZooError, match=r"'1\.1' of Sequential") as caught:
        trace(net, torch.zeros(1, 3, 8, 8))
    assert caught.value.hint


def test_networks_of_several_inputs_or_without_an_output_are_refused() -> None:
    x = torch.zeros(1, 3, 8, 8)

    class Pair(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(ZooError, match="2 inputs"):
        trace(Pair(), x)
    with pytest.raises(ZooError, match="depends on no tensor"):
        trace(Function(lambda net, x: (1, 2)), x)
    with pytest.raises(ZooError, match="no convolution"):
        quantized(Function(lambda net, x: x * 2), pictures(1))
    with pytest.raises(ZooError, match="example input of 1x3x8x8"):
        trace(nn.Conv2d(4, 4, 1), x)


def test_arguments_with_defaults_keep_them() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None, gain: float = 2.0) -> Tensor:
            return gain * (x if mask is None else x * mask)

    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(trace(Masked(), x)(x), 2 * x)


def test_values_are_never_changed_in_place() -> None:
    def compute(net: Any, x: Tensor) -> Tensor:
        a = net.conv(x)
        b = net.relu(a)
        b = b.add_(1)
        c = F.leaky_relu(b, 0.1, inplace=True)
        c.mul_(2)
        return torch.relu_(c - 3) + a + b

    net = Function(compute, conv=nn.Conv2d(3, 4, 1), relu=nn.ReLU(inplace=True)).eval()
    x = torch.rand(2, 3, 8, 8)
    expected = copy.deepcopy(net)(x)
    module = trace(net, x)
    a = module.conv(x)
    before = a.clone()
    module.relu(a)
    assert torch.equal(a, before)
    assert torch.allclose(module(x), expected)


# ------------------------------------------------------------------------------------------------- folding


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, bias=False),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2),
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False),
    ],
    ids=["conv", "grouped", "transposed", "grouped transposed"],
)
def test_folding_a_batch_norm_computes_the_same(layer: nn.Module) -> None:
    net = randomised(nn.Sequential(copy.deepcopy(layer), nn.BatchNorm2d(6), nn.ReLU()))
    x = torch.randn(2, 4, 8, 8)
    expected = net(x)
    module = trace(net, x)
    assert fold_batch_norms(module, pytest.fail) == 1
    assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    assert torch.allclose(module(x), expected, atol=1e-5)


def test_a_batch_norm_after_a_linear_layer_is_folded() -> None:
    net = randomised(nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5)))
    x = torch.randn(3, 1, 4, 4)
    expected = net(x)
    module = trace(net, x)
    assert fold_batch_norms(module, pytest.fail) == 1
    assert torch.allclose(module(x), expected, atol=1e-6)


def test_timms_fused_batch_norm_keeps_its_activation() -> None:
    layers = pytest.importorskip("timm.layers")
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 1), layers.BatchNormAct2d(4, act_layer=nn.LeakyReLU)))
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    module = trace(net, x)
    assert fold_batch_norms(module, pytest.fail) == 1
    assert torch.allclose(module(x), expected, atol=1e-6)
    assert sorted(dict(module.named_parameters())) == ["0.bias", "0.weight"]


def test_a_batch_norm_that_follows_no_layer_becomes_a_depthwise_convolution() -> None:
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.BatchNorm2d(4)))
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    module = trace(net, x)
    assert fold_batch_norms(module, pytest.fail) == 1
    assert isinstance(module.get_submodule("2"), nn.Conv2d)
    assert torch.allclose(module(x), expected, atol=1e-6)


@pytest.mark.parametrize("negative", [False, True])
def test_a_batch_norm_after_a_rectified_layer_leaves_its_shift_alone(negative: bool) -> None:
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)))
    if negative:
        net[2].weight.data[1:3].mul_(-1)
        net[2].weight.data[3] = 0.0
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    module = trace(net, x)
    assert fold_batch_norms(module, pytest.fail) == 1
    assert isinstance(module.get_submodule("2"), ShiftedRelu)
    assert sum(parameter.numel() for parameter in module.parameters()) == 12 + 4 + 4
    assert torch.allclose(module(x), expected, atol=1e-6)


def test_layers_used_twice_and_norms_without_statistics_are_not_folded() -> None:
    def compute(net: Any, x: Tensor) -> Tensor:
        return net.free(net.norm(net.conv(net.conv(x))))

    net = Function(
        compute,
        conv=nn.Conv2d(3, 3, 1),
        norm=nn.BatchNorm2d(3),
        free=nn.BatchNorm2d(3, track_running_stats=False),
    )
    randomised(net.norm)
    net.eval()
    x = torch.randn(4, 3, 8, 8)
    expected = net(x)
    left: list[str] = []
    module = trace(net, x)
    fold_batch_norms(module, lambda layer, reason: left.append(layer))
    assert left == ["free"]
    assert torch.allclose(module(x), expected, atol=1e-5)


# ------------------------------------------------------------------------------------------------ lowering


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_transposed_convolution_is_a_pointwise_one_and_a_shuffle(
    size: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = nn.ConvTranspose2d(6, 5, size, stride=size)
    x = torch.randn(2, 6, 4, 7).contiguous(memory_format=layout)
    lowered = DepthToSpace(size)(as_pointwise(conv)(x))
    assert torch.allclose(lowered, conv(x), atol=1e-6)


def test_transposed_convolutions_with_overlap_are_left_and_reported() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 1)).eval()
    x = pictures(1)
    expected = net(x)
    module, left = prepared(net, x)
    assert [layer for layer, _ in left] == ["1"]
    assert torch.equal(module(x), expected)


def test_a_convolution_and_its_pixel_shuffle_compute_the_same_with_channels_reordered() -> None:
    net = nn.Sequential(nn.Conv2d(4, 12, 3), nn.PixelShuffle(2), nn.Conv2d(3, 3, 1)).eval()
    x = pictures(2)
    expected = net(x)
    module, left = prepared(net, x)
    assert not left
    assert isinstance(module.get_submodule("1"), DepthToSpace)
    assert torch.allclose(module(x), expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_other_than_with_zeros_comes_before_the_convolution(mode: str) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode=mode)).eval()
    x = pictures(1)
    expected = net(x)
    module, _ = prepared(net, x)
    assert module.get_submodule("0").padding == (0, 0)
    assert torch.allclose(module(x), expected, atol=1e-6)


def test_everything_else_lowered_computes_the_same() -> None:
    def compute(net: Any, x: Tensor) -> Tensor:
        x = net.drop(net.silu(net.expand(x)))
        x = net.shuffle(x)
        gate = torch.sigmoid(net.squeeze(x.mean((2, 3), keepdim=True)))
        x = F.silu(x * gate) + F.adaptive_avg_pool2d(x, 1)
        return net.pool(x).flatten(1) + x.mean(dim=[-1, -2])

    net = Function(
        compute, expand=nn.Conv2d(4, 16, 1), silu=nn.SiLU(), drop=nn.Dropout(0.5), shuffle=nn.PixelShuffle(2),
        squeeze=nn.Conv2d(4, 4, 1), pool=nn.AdaptiveAvgPool2d(1),
    ).eval()  # fmt: skip
    x = pictures(2)
    expected = net(x)
    module, left = prepared(net, x)
    assert not left
    assert torch.allclose(module(x), expected, atol=1e-6)
    kept = {type(m).__name__ for m in module.modules()}
    assert not kept & {"SiLU", "Dropout", "AdaptiveAvgPool2d"}
    assert "mean" not in {str(node.target) for node in module.graph.nodes}


# ----------------------------------------------------------------------------------------------- placement


def test_the_inputs_and_the_result_of_a_concat_share_one_scale() -> None:
    module, _ = quantized(SmallUNet().build(), pictures(1))
    for number, stage in (("", 4), ("_1", 3), ("_2", 2), ("_3", 1)):
        skip = owner_of(module, f"down{stage}_act2")
        assert owner_of(module, f"cat{number}") is owner_of(module, f"up{stage}_shuffle") is skip
        assert owner_of(module, f"up{stage}") is skip
    assert owner_of(module, "pool") is owner_of(module, "down1_act2")


def test_leaky_activations_are_quantized_on_both_sides_with_scales_of_their_own() -> None:
    module, _ = quantized(SmallUNet().build(), pictures(1))
    assert owner_of(module, "down1_conv1") is not owner_of(module, "down1_act1")


def test_a_relu_shares_the_scale_of_the_layer_before_it_and_is_rounded_once() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1))
    module, _ = quantized(net, pictures(1))
    kinds = [
        type(module.get_submodule(str(node.target))).__name__ if node.op == "call_module" else node.op
        for node in module.graph.nodes
    ]
    relu, relu6 = ["QuantConv2d", "ReLU", "FakeQuantize"], ["QuantConv2d", "call_function", "FakeQuantize"]
    assert kinds == ["placeholder", "FakeQuantize", *relu, *relu6, "QuantConv2d", "output"]
    assert (owner_of(module, "_1").low, owner_of(module, "_1").high) == (0, 255)
    assert owner_of(module, "_3").limit == 6.0


def test_a_relu6_that_shares_its_scale_with_other_values_still_clips() -> None:
    def compute(net: Any, x: Tensor) -> Tensor:
        return net.last(torch.cat([net.clip(net.one(x)), net.two(x)], 1))

    net = Function(
        compute, one=nn.Conv2d(4, 4, 1), two=nn.Conv2d(4, 4, 1), last=nn.Conv2d(8, 4, 1), clip=nn.ReLU6()
    ).eval()
    with torch.no_grad():
        net.one.bias.fill_(10.0)
        net.two.bias.fill_(20.0)
    x = pictures(2)
    expected = net(x)
    module, _ = quantized(net, x)
    assert owner_of(module, "clip").limit is None
    assert (module(x) - expected).abs().max() < 0.3


def test_the_output_of_the_network_is_not_rounded() -> None:
    module, where = quantized(SmallUNet().build(), pictures(1))
    assert [left.layer for left in where.skipped_layers] == ["head"]
    nodes = list(module.graph.nodes)
    assert [str(node.target) for node in nodes[-3:]] == ["head", "shuffle", "output"]
    assert isinstance(module.head, QuantConv2d)


def test_a_global_residual_adds_the_input_as_it_is() -> None:
    net = Function(
        lambda net, x: x + net.two(F.leaky_relu(net.one(x))), one=nn.Conv2d(4, 4, 1), two=nn.Conv2d(4, 4, 1)
    )
    with torch.no_grad():
        for parameter in net.two.parameters():
            parameter.zero_()
    x = pictures(1)
    module, _ = quantized(net, x)
    assert torch.equal(module(x), x)


def test_operators_without_an_int8_form_are_reported_and_stay_between_quantizers() -> None:
    def compute(net: Any, x: Tensor) -> Tensor:
        return net.two(torch.softmax(net.mish(net.one(x)), 1))

    net = Function(compute, one=nn.Conv2d(4, 4, 1), two=nn.Conv2d(4, 4, 1), mish=nn.Mish())
    module, where = quantized(net, pictures(1))
    assert {left.layer for left in where.skipped_layers} == {"mish", "softmax", "two"}
    assert owner_of(module, "one") is not owner_of(module, "softmax")


def test_layers_that_change_their_weights_are_left_float_and_do_not_pull_others_along() -> None:
    class Dynamic(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight * (1 + x.mean()), self.bias)

    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), Dynamic(4, 4, 1), nn.BatchNorm2d(4), normed)
    x = pictures(2)
    expected = randomised(net)(x)
    module, where = quantized(net, x)
    assert [left.layer for left in where.skipped_layers] == ["2", "3", "4"]
    assert "Dynamic" in where.skipped_layers[0].reason
    assert isinstance(module.get_submodule("3"), nn.BatchNorm2d), (
        "alone, it would round what is not scaled yet"
    )
    assert (module(x) - expected).std() < 0.02 * expected.std()
    assert owner_of(module, "_1").low == 0


def test_slices_and_chunks_share_the_scale_of_what_they_are_cut_from() -> None:
    def compute(net: Any, x: Tensor) -> Tensor:
        a, b = net.one(x).chunk(2, dim=1)
        return net.two(a + b[:, :, ::1])

    net = Function(compute, one=nn.Conv2d(4, 8, 1), two=nn.Conv2d(4, 4, 1))
    module, _ = quantized(net, pictures(1))
    assert owner_of(module, "getitem") is owner_of(module, "getitem_2") is owner_of(module, "one")
    assert owner_of(module, "add") is not owner_of(module, "one")
