"""`space-to-depth`: the same network at a fraction of its resolution, and what it is fitted to."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from support.surgery_nets import context, parameters, relative_error, small_unet, smooth
from zoo import plugins
from zoo.architectures.timm_models import TimmArchitecture
from zoo.architectures.unet import UNetArchitecture
from zoo.contracts import Context, SilentReporter
from zoo.cost import model_cost, onnx_cost
from zoo.errors import UsageError, ZooError
from zoo.export.exporter import export_onnx
from zoo.pipeline.input_spec import adapt_input
from zoo.pipeline.plan import plan
from zoo.pipeline.request import ApplyRequest
from zoo.recipes.grammar import Recipe, Stage
from zoo.surgery import identity_conv, trace
from zoo.training.schedule import Budget
from zoo_techniques.space_to_depth import SpaceToDepth
from zoo_techniques.space_to_depth.reduction import grow_kernel, space_to_depth
from zoo_techniques.space_to_depth.technique import SpaceToDepthConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def reduced(model: nn.Module, ctx: Context | None = None, **options: Any) -> nn.Module:
    technique = SpaceToDepth(SpaceToDepthConfig(**options))
    ctx = ctx or context(smooth(1, size=64), [smooth(4, size=64, seed=1), smooth(4, size=64, seed=2)])
    ctx = dataclasses.replace(ctx, architecture=adapt_input(ctx.architecture, [technique]))
    return technique.rewrite(copy.deepcopy(model).eval(), ctx)


def enlarged(model: nn.Module, inputs: Tensor, factor: int) -> Tensor:
    """What a network makes of the averaged input, each pixel repeated."""
    with torch.no_grad():
        return functional.interpolate(
            model(functional.avg_pool2d(inputs, factor)), scale_factor=float(factor)
        )


# ---------------------------------------------------------------------------------------------- building blocks


@pytest.mark.parametrize("factor", [2, 4])
def test_space_to_depth_is_a_convolution(factor: int) -> None:
    inputs = torch.rand(2, 3, 8, 16)
    expected = functional.pixel_unshuffle(inputs, factor)
    assert torch.equal(space_to_depth(3, factor, like=inputs)(inputs), expected)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (1, 5), padding=(0, 2), stride=2, bias=False),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2),
    ],
    ids=["3x3", "strided", "dilated, grouped"],
)
def test_a_grown_kernel_computes_on_averages(conv: nn.Conv2d) -> None:
    inputs, grown = torch.rand(2, 4, 16, 32), copy.deepcopy(conv)
    grow_kernel(grown, 2)
    assert torch.allclose(grown(inputs), conv(functional.avg_pool2d(inputs, 2)), atol=1e-5)


def test_an_identity_gives_what_it_takes() -> None:
    inputs = torch.rand(1, 5, 4, 4)
    assert torch.equal(identity_conv(5, like=inputs)(inputs), inputs)


# ----------------------------------------------------------------------------------------------- initialisation


@pytest.mark.parametrize("detail", [False, True])
@pytest.mark.parametrize("factor", [2, 4])
def test_unfitted_it_is_the_network_on_the_averaged_picture(factor: int, detail: bool) -> None:
    net, inputs = small_unet(), smooth(2, size=64)
    found = reduced(net, factor=factor, detail=detail, refine=False)
    with torch.no_grad():
        assert torch.allclose(found(inputs), enlarged(net, inputs, factor), atol=1e-5)


def test_fitting_brings_it_nearer_to_the_network_at_full_resolution() -> None:
    net, unseen = small_unet(), smooth(4, seed=9)
    bare = relative_error(reduced(net, refine=False), net, unseen)
    for detail in (False, True):
        assert relative_error(reduced(net, detail=detail), net, unseen) < 0.7 * bare


def test_the_pixels_themselves_place_what_averages_cannot() -> None:
    """The output follows single pixels, which the features of the network at half resolution no longer tell."""

    class Follows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.pool, self.two = nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, 1, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.pool(self.one(x)) + x)

    net, unseen = Follows().eval(), torch.rand(4, 4, 32, 32)
    ctx = context(unseen[:1], [torch.rand(8, 4, 32, 32)])
    without = relative_error(reduced(net, ctx, detail=False), net, unseen)
    assert relative_error(reduced(net, ctx), net, unseen) < 0.3 * without


def test_a_network_of_one_pixel_shuffle_is_found_exactly() -> None:
    """What the last convolution needs lies in the cell's own pixels: the fit of its weights has no error."""
    net = nn.Sequential(nn.Conv2d(4, 12, 1), nn.PixelShuffle(2)).eval()
    assert relative_error(reduced(net), net, smooth(2, seed=5)) < 0.02


def test_the_result_depends_on_the_seed_alone() -> None:
    first, second = reduced(small_unet()).state_dict(), reduced(small_unet()).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------------- counts


def test_multiplications_fall_by_the_square_of_the_factor_but_at_both_ends() -> None:
    net, example = small_unet(), smooth(1, size=64)
    layers = {layer.name: layer.macs for layer in model_cost(net, example).layers}
    ends = layers["down1.conv1"] + layers["head"]
    inside = sum(layers.values()) - ends
    for factor in (2, 4):
        found = reduced(net, context(example, [example]), factor=factor, detail=False, refine=False)
        assert model_cost(found, example).macs == ends + inside // factor**2


def test_parameters_grow_at_both_ends_alone() -> None:
    net = small_unet()
    first, last = 4 * 4 * 9, 4 * 12
    assert parameters(reduced(net, detail=False, refine=False)) - parameters(net) == 3 * first + 3 * (
        last + 12
    )
    space, more = 16 * 4 * 4, 16 * 48
    assert (
        parameters(reduced(net, refine=False)) - parameters(net) == 3 * first + 3 * (last + 12) + space + more
    )


# -------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("cells", [(1, 1), (3, 1), (2, 3)])
def test_all_whole_cells_suit_it(factor: int, cells: tuple[int, int]) -> None:
    net, inputs = small_unet(), torch.rand(1, 4, *(16 * factor * count for count in cells))
    found = reduced(net, factor=factor, refine=False)
    with torch.no_grad():
        assert found(inputs).shape == net(inputs).shape


@pytest.fixture(scope="module")
def exported() -> tuple[nn.Module, bytes]:
    ctx = context()
    found = reduced(small_unet(), ctx, refine=False)
    return found, export_onnx(found, adapt_input(ctx.architecture, [SpaceToDepth()]))


def test_the_exported_file_takes_them_too(exported: tuple[nn.Module, bytes]) -> None:
    found, data = exported
    session = plugins.engine("onnxruntime").open(data, threads=1)
    for height, width in ((32, 96), (32, 32), (64, 32)):
        inputs = torch.rand(1, 4, height, width)
        with torch.no_grad():
            expected = found(inputs).clamp(0, 1).numpy()
        assert np.abs(session.run(inputs.numpy()) - expected).max() < 1e-4


def test_the_exported_file_costs_what_the_network_does(exported: tuple[nn.Module, bytes]) -> None:
    found, data = exported
    cost = onnx_cost(data, (1, 4, 64, 96))
    assert cost.macs == model_cost(found, torch.zeros(1, 4, 64, 96)).macs
    assert cost.parameters == parameters(found)


def test_tiles_start_at_whole_cells_and_see_further() -> None:
    unet = UNetArchitecture()
    for _ in range(2):  # a second network for the same architecture must not add up
        suited = adapt_input(unet, [SpaceToDepth()])
        assert (suited.input.multiple_of, suited.input.halo) == (32, 192)
    assert unet.input.multiple_of == 16


def test_the_example_grows_to_whole_cells() -> None:
    spec = dataclasses.replace(UNetArchitecture().input, example=(48, 64))
    assert SpaceToDepth().adapt_input(spec).example == (64, 64)
    with pytest.raises(ZooError, match="64x48 does not divide into cells of 32"):
        SpaceToDepth().adapt_input(dataclasses.replace(spec, fixed_size=True))


def test_crops_that_are_no_whole_cells_are_refused_before_any_work(tmp_path: Path) -> None:
    stage = Stage("space-to-depth")
    request = ApplyRequest(Recipe((stage,)), "unet", tmp_path / "out", (Budget(steps=1),), crop=48)
    with pytest.raises(UsageError, match="must be a multiple of 32") as caught:
        plan(request, SilentReporter())
    assert "--crop 32" in str(caught.value.hint)


# --------------------------------------------------------------------------------------------- other networks


def test_a_mask_of_one_channel_gets_a_shuffle_of_its_own() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 1, 3, padding=1), nn.Sigmoid())
    found, inputs = reduced(net.eval(), refine=False, detail=False), smooth(2)
    with torch.no_grad():
        assert torch.allclose(found(inputs), enlarged(net, inputs, 2), atol=1e-5)
    assert relative_error(reduced(net), net, smooth(2, seed=5)) < 0.05


def test_a_network_that_adds_its_input_at_the_end_runs_on_the_average() -> None:
    class Correcting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + functional.interpolate(self.two(self.one(x).relu()), size=x.shape[2:])

    net, inputs = Correcting().eval(), smooth(2)
    found = reduced(net, refine=False)
    with torch.no_grad():
        assert torch.allclose(found(inputs), enlarged(net, inputs, 2), atol=1e-5)
    assert relative_error(reduced(net), net, inputs) < 0.5 * relative_error(found, net, inputs)


def test_layers_on_pooled_features_are_left_out_of_the_fit() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.gate = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
            self.last = nn.Conv2d(6, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x).relu()
            return self.last(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())

    net = Gated().eval()
    found = reduced(net)
    assert torch.equal(found.gate.weight, net.gate.weight)
    assert not torch.equal(found.one.weight, net.one.weight)


def test_the_result_can_be_copied_and_traced() -> None:
    found = reduced(small_unet(), refine=False)
    again, inputs = trace(copy.deepcopy(found), smooth(1)), smooth(2, size=96)
    with torch.no_grad():
        assert torch.allclose(again(inputs), found(inputs), atol=1e-6)


# ---------------------------------------------------------------------------------------------------- refusals


def test_a_classifier_is_refused_by_name() -> None:
    net = TimmArchitecture("test_resnet").build().eval()
    ctx = Context(TimmArchitecture("test_resnet"), torch.rand(1, 3, 64, 64))
    with pytest.raises(
        ZooError, match=r"space-to-depth cannot run ResNet at 1/2: it needs a network whose output has"
    ):
        reduced(net, ctx)


def test_a_network_of_one_size_is_refused() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(4, 4, 3, padding=1)
            self.place = nn.Parameter(torch.rand(4, 64, 64))

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x + self.place)

    with pytest.raises(ZooError, match="Fixed does not run at 1/2 of its resolution"):
        reduced(Fixed())
