"""`swift-unet`: what goes through it unharmed."""

from __future__ import annotations

import torch
from torch import nn

from zoo.architectures.swift_unet import SwiftUNetArchitecture
from zoo.architectures.swift_unet_module import SwiftUNet, demosaic_weights


def packed(picture: torch.Tensor) -> torch.Tensor:
    """Return the packed RGGB mosaic of a picture (3, H, W), (1, 4, H/2, W/2)."""
    places = ((0, 0, 0), (1, 0, 1), (2, 1, 1), (1, 1, 0))
    return torch.stack([picture[color, row::2, column::2] for color, row, column in places])[None]


def test_the_demosaic_brings_shades_of_gray_back_exactly() -> None:
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    picture = (0.01 * rows + 0.02 * columns).expand(3, -1, -1)
    made = nn.functional.pixel_shuffle(
        nn.functional.conv2d(packed(picture), demosaic_weights(), stride=2, padding=1), 4
    )[0]
    assert torch.allclose(made[:, 4:-4, 4:-4], picture[:, 4:-4, 4:-4], atol=1e-5)


def test_a_clean_input_passes_the_untrained_network_and_a_noisy_one_does_not() -> None:
    torch.manual_seed(0)
    net = SwiftUNet(SwiftUNetArchitecture.widths).eval()
    nn.init.zeros_(net.head.weight)
    mosaic = torch.full((1, 4, 32, 32), 0.5)
    with torch.no_grad():
        clean, noisy = (
            net(torch.cat([mosaic, torch.full_like(mosaic, level)], dim=1)) for level in (0.0, 0.9)
        )
    assert torch.allclose(clean[..., 8:-8, 8:-8], torch.tensor(0.5), atol=0.02)
    assert noisy.abs().max() < 0.05
