"""Layers with other numbers of channels compute what they computed, on the channels that are left."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.surgery import (
    WEIGHTED_LAYERS,
    identity_conv,
    input_channels,
    keep_along,
    keep_depthwise,
    keep_features,
    keep_inputs,
    keep_outputs,
    output_channels,
    reset_inputs,
)

LAYERS = {
    "conv": lambda: nn.Conv2d(6, 8, 3, padding=1),
    "grouped": lambda: nn.Conv2d(6, 8, 3, padding=1, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(6, 8, 2, stride=2),
    "transposed, grouped": lambda: nn.ConvTranspose2d(6, 8, 2, stride=2, groups=2),
    "line": lambda: nn.Conv1d(6, 8, 3),
    "linear": lambda: nn.Linear(6, 8),
}
#: Of 6 inputs and 8 outputs: the same of each of two groups.
KEPT_INPUTS, KEPT_OUTPUTS = torch.tensor([0, 2, 3, 5]), torch.tensor([1, 2, 5, 6])


def inputs_for(layer: nn.Module) -> Tensor:
    if isinstance(layer, nn.Linear):
        return torch.rand(2, 6)
    return torch.rand(2, 6, 9) if isinstance(layer, nn.Conv1d) else torch.rand(2, 6, 5, 5)


@pytest.mark.parametrize("kind", LAYERS)
def test_without_inputs_it_computes_as_if_they_were_zero(kind: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    assert isinstance(layer, WEIGHTED_LAYERS)
    inputs = inputs_for(layer)
    zeroed = torch.zeros_like(inputs)
    zeroed[:, KEPT_INPUTS] = inputs[:, KEPT_INPUTS]
    with torch.no_grad():
        wanted = layer(zeroed)
        keep_inputs(layer, KEPT_INPUTS)
        torch.testing.assert_close(layer(inputs[:, KEPT_INPUTS]), wanted)
    assert input_channels(layer) == 4


@pytest.mark.parametrize("kind", LAYERS)
def test_without_outputs_the_others_are_unchanged(kind: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    inputs = inputs_for(layer)
    with torch.no_grad():
        wanted = layer(inputs)[:, KEPT_OUTPUTS]
        keep_outputs(layer, KEPT_OUTPUTS)
        torch.testing.assert_close(layer(inputs), wanted)
    assert output_channels(layer) == 4


def test_a_depthwise_convolution_loses_outputs_with_inputs() -> None:
    conv = nn.Conv2d(4, 8, 3, groups=4)
    inputs, kept, outputs = torch.rand(1, 4, 5, 5), torch.tensor([1, 3]), torch.tensor([2, 3, 6, 7])
    with torch.no_grad():
        wanted = conv(inputs)[:, outputs]
        keep_depthwise(conv, kept, outputs)
        torch.testing.assert_close(conv(inputs[:, kept]), wanted)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(6), nn.GroupNorm(1, 6), nn.PReLU(6)], ids=lambda each: type(each).__name__
)
def test_norms_keep_the_numbers_of_their_channels(layer: nn.Module) -> None:
    index = torch.tensor([0, 4])
    weight = nn.Parameter(torch.arange(6.0))
    layer.weight = weight
    keep_features(layer, index)
    assert torch.equal(layer.weight, torch.tensor([0.0, 4.0]))
    assert layer.eval()(torch.rand(1, 2, 3, 3)).shape == (1, 2, 3, 3)


def test_a_missing_bias_stays_missing() -> None:
    conv = nn.Conv2d(3, 4, 1, bias=False)
    keep_along(conv, "bias", 0, torch.tensor([0]))
    assert conv.bias is None


def test_frozen_parameters_stay_frozen() -> None:
    conv = nn.Conv2d(3, 4, 1).requires_grad_(False)
    keep_outputs(conv, torch.tensor([0, 1]))
    assert not any(parameter.requires_grad for parameter in conv.parameters())


def test_new_inputs_have_weights_of_zero() -> None:
    conv = nn.Conv2d(3, 4, 1)
    bias = conv.bias
    reset_inputs(conv, 7)
    assert torch.equal(conv(torch.rand(1, 7, 2, 2))[0, :, 0, 0], bias)


def test_the_identity_has_the_type_it_is_told() -> None:
    inputs = torch.rand(1, 5, 3, 3, dtype=torch.float64)
    conv = identity_conv(5, like=inputs)
    assert torch.equal(conv(inputs), inputs)
