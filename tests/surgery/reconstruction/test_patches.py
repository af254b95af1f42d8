"""What layers see at each position of their outputs, and the weights that multiply it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.surgery import as_images
from zoo.surgery.reconstruction import (
    dense_weight,
    draw_positions,
    extract_patches,
    groups_of,
    output_size,
    pixels_at,
    store_dense_weight,
)

LAYERS = {
    "grouped": (nn.Conv2d, {"kernel_size": 3, "padding": 1, "groups": 2}),
    "strided": (nn.Conv2d, {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 0)}),
    "transposed, stride as kernel": (nn.ConvTranspose2d, {"kernel_size": 2, "stride": 2}),
    "transposed, overlapping": (
        nn.ConvTranspose2d,
        {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 2},
    ),
    "transposed, uneven": (
        nn.ConvTranspose2d,
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0)},
    ),
    "transposed, dilated": (nn.ConvTranspose2d, {"kernel_size": 3, "stride": 2, "dilation": 2}),
    "transposed, kernel below stride": (
        nn.ConvTranspose2d,
        {"kernel_size": 1, "stride": 2, "output_padding": 1},
    ),
    "linear": (nn.Linear, {}),
}


def layer_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    kind, options = LAYERS[name]
    return kind(4, 6, **options)


@pytest.mark.parametrize("name", LAYERS)
def test_patches_times_the_weight_are_the_output(name: str) -> None:
    layer = layer_of(name)
    inputs = torch.randn(1, 5, 4) if name == "linear" else torch.randn(1, 4, 7, 9)
    wanted = as_images(layer, layer(inputs))
    image = as_images(layer, inputs)
    assert output_size(layer, *image.shape[2:]) == tuple(wanted.shape[2:])
    at = draw_positions(wanted.shape[2:], 23, torch.Generator().manual_seed(1))
    groups = groups_of(layer)
    seen = extract_patches(layer, image, at).reshape(len(at), groups, -1)
    weight = dense_weight(layer).flatten(2)
    computed = torch.einsum("ngf,gof->ngo", seen, weight).flatten(1) + layer.bias
    torch.testing.assert_close(computed, pixels_at(wanted[0], at), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_a_weight_that_is_stored_comes_back(name: str) -> None:
    layer = layer_of(name)
    before = layer.weight.detach().clone()
    weight = dense_weight(layer).flatten(2).clone()
    store_dense_weight(layer, 2 * weight)
    torch.testing.assert_close(layer.weight.detach(), 2 * before)
