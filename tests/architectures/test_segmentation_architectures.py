"""The architectures that give masks: their published counts, shapes, reach, and the recipes they equal."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from zoo import plugins
from zoo.contracts import Architecture, Context
from zoo.modules.separable import SeparableConv2d

IDS = (
    "thin-unet",
    "thin-unet-separable",
    "thin-unet-student",
    "c-unet",
    "c-unet-plus",
    "squeeze-unet",
    "fixed-point-unet",
)


def bodiless(architecture: Architecture) -> nn.Module:
    with torch.device("meta"):
        return architecture.build()


def weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def numbers(net: nn.Module) -> int:
    """Weights and running statistics, as Keras counts parameters."""
    return sum(t.numel() for name, t in net.state_dict().items() if "num_batches" not in name)


@pytest.mark.parametrize(
    ("name", "count"),
    [("thin-unet", 288_513), ("thin-unet-separable", 43_242), ("thin-unet-student", 44_586)],
)
def test_thin_unets_have_the_published_counts_with_their_statistics(name: str, count: int) -> None:
    assert numbers(bodiless(plugins.architecture(name))) == count


@pytest.mark.parametrize(
    ("name", "count"), [("c-unet", 51_113), ("c-unet-plus", 8_433), ("fixed-point-unet", 4_837_249)]
)
def test_the_others_have_the_published_parameters(name: str, count: int) -> None:
    assert weights(bodiless(plugins.architecture(name))) == count


def test_squeeze_unet_has_the_published_weights_without_classifier_and_biases() -> None:
    net = bodiless(plugins.architecture("squeeze-unet"))
    kernels = {name: p.numel() for name, p in net.named_parameters() if name.endswith("weight")}
    down = sum(n for name, n in kernels.items() if name.startswith(("down", "bottom")))
    assert down == 1_545_920
    assert sum(kernels.values()) - kernels["head.weight"] == 2_613_952


@pytest.mark.parametrize("name", IDS)
def test_the_mask_is_a_probability_of_the_size_of_the_picture(name: str) -> None:
    made = plugins.architecture(name)
    assert (made.task, made.output.kind) == ("segmentation", "mask")
    torch.manual_seed(0)
    net = made.build().eval()
    side = made.input.multiple_of
    with torch.no_grad():
        mask = net(torch.rand(2, made.input.channels, side, 2 * side))
    assert mask.shape == (2, made.output.channels, side, 2 * side)
    assert 0 < float(mask.min()) < float(mask.max()) < 1
    assert all(length % side == 0 for length in made.input.example)


@pytest.mark.parametrize("name", IDS)
def test_stages_name_modules_of_the_net(name: str) -> None:
    made = plugins.architecture(name)
    net = bodiless(made)
    names = [module for stage in made.stages() for module in stage.values()]
    assert len(set(names)) == len(names) >= 7
    for module in names:
        net.get_submodule(module)
    named = {module.partition(".")[0] for module, _ in net.named_parameters()}
    assert named - set(names) == {"head"}, "every layer but the last belongs to a stage"


def linear(net: nn.Module) -> nn.Module:
    """The net with equal positive weights and no bends, in float64: its gradients show all that reaches an output."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(2))
            elif isinstance(child, nn.Sigmoid):
                setattr(module, name, nn.Identity())
    return net.double().eval()


@pytest.mark.parametrize("name", IDS)
def test_the_halo_is_as_wide_as_the_net_looks(name: str) -> None:
    spec = plugins.architecture(name).input
    net = linear(plugins.architecture(name).build())
    step, halo = spec.multiple_of, spec.halo
    assert halo is not None
    assert halo % step == 0
    tile = halo + step
    inputs = torch.rand(1, spec.channels, step, 2 * tile + step, dtype=torch.float64, requires_grad=True)
    outputs = net(inputs)
    reach = 0
    for column in (tile, tile + step - 1):  # the first and the last that the tile gives
        (gradient,) = torch.autograd.grad(outputs[..., column].sum(), inputs, retain_graph=True)
        touched = gradient.abs().sum((0, 1, 2)).nonzero()
        reach = max(reach, tile - int(touched.min()), int(touched.max()) - (tile + step - 1))
    assert halo - step < reach <= halo


def test_the_separable_net_is_the_thin_one_after_the_recipe() -> None:
    """Weights move from one to the other, and compute the same."""
    torch.manual_seed(0)
    made, inputs = plugins.architecture("thin-unet"), torch.rand(1, 1, 64, 64)
    technique = plugins.technique("depthwise", {"bias": "pointwise", "refine": "false"})
    both = plugins.technique("depthwise", {"refine": "false"})
    net = made.build().eval()
    rewritten, larger = (
        each.rewrite(copy.deepcopy(net), Context(made, inputs)).eval() for each in (technique, both)
    )
    assert numbers(rewritten) == 43_242
    separable = plugins.architecture("thin-unet-separable").build().eval()
    separable.load_state_dict(rewritten.state_dict())
    with torch.no_grad():
        assert torch.equal(separable(inputs), rewritten(inputs))
        assert torch.allclose(rewritten(inputs), larger(inputs), atol=1e-6)


def test_folding_the_depthwise_bias_changes_nothing() -> None:
    torch.manual_seed(0)
    layer, inputs = SeparableConv2d(3, 5, 3, padding=1), torch.rand(2, 3, 8, 8)
    before = layer(inputs)
    layer.fold_bias()
    assert layer.depthwise.bias is None
    assert torch.allclose(layer(inputs), before, atol=1e-6)


def test_the_student_is_the_separable_net_with_one_more_convolution() -> None:
    separable = bodiless(plugins.architecture("thin-unet-separable")).state_dict()
    student = bodiless(plugins.architecture("thin-unet-student")).state_dict()
    assert {name: tensor.shape for name, tensor in separable.items()}.items() <= {
        name: tensor.shape for name, tensor in student.items()
    }.items()
    assert {name.rpartition(".")[0] for name in student.keys() - separable.keys()} == {
        "bottom.conv3.depthwise",
        "bottom.conv3.pointwise",
    }


class Recorder(nn.Module):
    """Notes the shapes that pass a point of a net."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return x


def test_c_unet_plus_pools_after_each_of_its_three_convolutions() -> None:
    net = plugins.architecture("c-unet-plus").build().eval()
    recorder = Recorder()
    net.up3 = nn.Sequential(recorder, copy.deepcopy(net.up3))
    with torch.no_grad():
        net(torch.rand(1, 3, 32, 32))
    assert recorder.shapes == [(1, 32, 4, 4)]
