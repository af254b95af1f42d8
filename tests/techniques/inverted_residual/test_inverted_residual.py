"""`inverted-residual`: blocks that cost what the paper says, fitted to the convolutions they replace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from support.rewriting import context, mean_error, odd_net, reasons, rewritten, smooth
from zoo.cost import model_cost
from zoo.errors import NoEffectError
from zoo.modules.inverted_residual import InvertedResidualBlock
from zoo.testing.trial import rewrite
from zoo.testing.workbench import Inert
from zoo_techniques.inverted_residual import InvertedResidual as Technique
from zoo_techniques.inverted_residual.fit import InvertedResidualReplacement
from zoo_techniques.inverted_residual.technique import InvertedResidualConfig as Config


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def block_of(new: nn.Module) -> InvertedResidualBlock:
    """The block in place of the only layer."""
    assert isinstance(new[0], InvertedResidualBlock)
    return new[0]


def test_block_costs_what_a_hand_count_says() -> None:
    image = torch.rand(1, 8, 6, 10)
    block = model_cost(InvertedResidualBlock(8, 20, 12, bias=False), image)
    assert (block.parameters, block.macs) == (8 * 20 + 20 * 9 + 20 * 12, 60 * (160 + 180 + 240))
    strided = model_cost(InvertedResidualBlock(8, 20, 12, stride=2, bias=False), image)
    assert (strided.parameters, strided.macs) == (block.parameters, 60 * 160 + 15 * 420)


GEOMETRIES = {
    "same size": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
    "no padding, uneven": {"kernel_size": (3, 5)},
    "dilation, reflecting": {"kernel_size": 3, "padding": 2, "dilation": 2, "padding_mode": "reflect"},
    "'same'": {"kernel_size": 3, "padding": "same"},
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("residual", [True, False])
def test_a_hidden_channel_for_each_weight_of_a_kernel_is_enough_to_be_exact(
    geometry: dict, residual: bool
) -> None:
    conv, data = nn.Conv2d(6, 16, **geometry), smooth(2, 6)
    replacement = InvertedResidualReplacement(conv, 64, "none", residual=residual)
    block, error = replacement.build()
    assert isinstance(block, InvertedResidualBlock)
    assert block.depthwise.out_channels == 6 * min(16, conv.weight[0, 0].numel())
    assert error < 1e-5
    torch.testing.assert_close(block(data), conv(data), rtol=1e-3, atol=1e-4)


def test_convolution_of_low_rank_is_found_in_a_basis_of_channels_that_is_not_its_own() -> None:
    """Two kernels for each of six mixtures of the input channels: an expansion of two."""
    conv, data = nn.Conv2d(6, 64, 3, padding=1), smooth(8, 6)
    mixed, kernels = torch.linalg.qr(torch.randn(6, 6))[0], torch.randn(6, 2, 9)
    weight = torch.einsum("oik,ic,ikt->oct", torch.randn(64, 6, 2), mixed, kernels)
    conv.weight.data = weight.view_as(conv.weight)
    new = rewritten(Technique(Config(expansion=2)), nn.Sequential(conv), data)
    assert block_of(new).depthwise.out_channels == 12
    assert mean_error(new, conv, data) < 0.05


def test_residual_link_is_there_where_the_shapes_allow_it() -> None:
    net = nn.Sequential(
        nn.Conv2d(6, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 3, padding=1, stride=2), nn.Conv2d(16, 16, (3, 1), padding=(1, 0)),
    )  # fmt: skip
    new = rewritten(Technique(Config(expansion=1)), net, smooth(4, 6))
    assert [module.residual for module in new if isinstance(module, InvertedResidualBlock)] == [
        False,
        True,
        False,
        False,
        True,
    ]
    none = rewritten(Technique(Config(expansion=1, residual=False)), net, smooth(4, 6))
    assert not any(module.residual for module in none)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_activations_are_nearly_transparent_at_first_the_border_included(activation: str) -> None:
    conv, data = nn.Conv2d(12, 24, 3, padding=1), smooth(12, 12) - 0.5
    linear, active = (
        rewritten(Technique(Config(activation=each)), nn.Sequential(conv), data[:8])
        for each in ("none", activation)
    )
    kinds = {"relu": nn.ReLU, "relu6": nn.ReLU6}
    assert type(block_of(active).activation1) is type(block_of(active).activation2) is kinds[activation]
    assert mean_error(active, linear, data[8:]) < 0.1
    with torch.no_grad():
        border = (active(data) - linear(data))[..., 0, :].norm() / linear(data)[..., 0, :].norm()
    assert border < 0.15


def test_fitting_to_inputs_beats_the_weights_alone_on_inputs_not_seen() -> None:
    net, data = odd_net(), smooth(16)
    technique = Technique(Config(expansion=1.5))
    fitted = rewritten(technique, net, data[:12])
    plain = rewritten(technique, net, data[:12], fitted=False)
    assert sum(isinstance(m, InvertedResidualBlock) for m in fitted.modules()) == 3
    assert mean_error(fitted, net, data[12:]) < 0.5 * mean_error(plain, net, data[12:])


def test_more_channels_inside_are_nearer_to_the_convolution() -> None:
    conv, data = nn.Conv2d(8, 32, 3, padding=1), smooth(12, 8)
    errors = [
        mean_error(
            rewritten(Technique(Config(expansion=expansion)), nn.Sequential(conv), data[:8]), conv, data[8:]
        )
        for expansion in (0.5, 1, 2, 4)
    ]
    assert errors == sorted(errors, reverse=True)


def test_weights_and_multiplications_of_a_net_shrink() -> None:
    original, new, runner = rewrite(Technique())
    example = runner.context.example_input
    before, after = model_cost(original, example), model_cost(new, example)
    assert after.parameters < 0.75 * before.parameters
    assert after.macs < 0.75 * before.macs


# torch remarks that it copies the input when an even kernel pads to the same size.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_what_cannot_become_a_block_is_named_with_the_reason() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1, groups=4),
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(16, 1, 3, padding=1),
        nn.ConvTranspose2d(1, 16, 2, stride=2),
        nn.Conv2d(16, 16, 4, padding="same"),
    )
    ctx = context(smooth(1))
    new = Technique(Config(activation="relu6")).rewrite(net, ctx)
    wanted = {
        "1": "groups=4",
        "2": "1x1",
        "3": "save nothing",
        "4": "ConvTranspose2d",
        "5": "unequally",
    }
    found = reasons(ctx)
    assert found.keys() == wanted.keys()
    assert all(reason in found[layer] for layer, reason in wanted.items())
    assert isinstance(new[0], InvertedResidualBlock)


def test_nothing_dense_left_fails_by_name() -> None:
    with pytest.raises(NoEffectError, match="inverted-residual changed nothing"):
        rewrite(Technique(), Inert())
