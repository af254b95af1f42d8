"""The building blocks: shapes, what their strides and paddings mean, and names that saved weights rely on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.modules.fire import FireModule, TransposedFireModule
from zoo.modules.inverted_residual import InvertedResidualBlock
from zoo.modules.separable import SeparableConv2d

INPUTS = torch.rand(2, 6, 12, 10)
BLOCKS: dict[str, tuple[nn.Module, tuple[int, ...], set[str]]] = {
    "fire": (FireModule(6, 3, (4, 5)), (2, 9, 12, 10), {"squeeze", "expand1", "expand3"}),
    "fire, strided": (FireModule(6, 3, 4, stride=2), (2, 8, 6, 5), {"squeeze", "expand1", "expand3"}),
    "transposed fire": (TransposedFireModule(6, 3, 4), (2, 8, 24, 20), {"squeeze", "expand1", "expand2"}),
    "inverted": (InvertedResidualBlock(6, 12, 8), (2, 8, 12, 10), {"expand", "depthwise", "project"}),
    "inverted, padded first": (
        InvertedResidualBlock(6, 12, 6, activation=nn.ReLU6, residual=True, pad_first=True),
        (2, 6, 12, 10),
        {"expand", "depthwise", "project"},
    ),
    "separable": (SeparableConv2d(6, 8, 3, padding=1), (2, 8, 12, 10), {"depthwise", "pointwise"}),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_take_their_input_by_the_name_that_the_layers_they_replace_have_for_it(name: str) -> None:
    block = BLOCKS[name][0].eval()
    with torch.no_grad():
        assert torch.equal(block(input=INPUTS), block(INPUTS))


@pytest.mark.parametrize("name", BLOCKS)
def test_outputs_have_the_shape_that_is_documented(name: str) -> None:
    block, shape, _ = BLOCKS[name]
    assert block(INPUTS).shape == shape


@pytest.mark.parametrize("name", BLOCKS)
def test_saved_weights_have_the_names_they_always_had(name: str) -> None:
    block, _, parts = BLOCKS[name]
    assert {key.partition(".")[0] for key in block.state_dict()} == parts


def test_the_one_by_one_branch_sees_the_centre_of_the_kernel() -> None:
    fire = FireModule(6, 6, 4, stride=2, bias=False)
    with torch.no_grad():
        fire.expand3.weight.zero_()
        fire.expand3.weight[:, :, 1, 1] = fire.expand1.weight[:, :, 0, 0]
        first, second = fire(INPUTS).chunk(2, dim=1)
        torch.testing.assert_close(first, second)


def test_folding_a_bias_changes_nothing() -> None:
    conv = SeparableConv2d(6, 8, 3, padding=1)
    with torch.no_grad():
        wanted = conv(INPUTS)
        conv.fold_bias()
        torch.testing.assert_close(conv(INPUTS), wanted)
    assert conv.depthwise.bias is None


def test_a_residual_block_adds_its_input() -> None:
    block = InvertedResidualBlock(6, 12, 6, residual=True, bias=False)
    with torch.no_grad():
        block.project.weight.zero_()
        assert torch.equal(block(INPUTS), INPUTS)
