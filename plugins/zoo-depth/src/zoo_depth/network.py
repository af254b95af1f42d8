"""An encoder of timm, a decoder, and one number for each of its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import timm
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo_depth.decoders import BiFpnDecoder, FfnUp, convolution

#: The encoder, by timm's name.
ENCODER = "efficientnet_b0"
#: What it returns: the numbers of its maps, of which number k has 1 / 2^(k + 1) of the size.
_FINE, _COARSE = (1, 2, 3, 4), (2, 3, 4)


class DepthNetwork(nn.Module):
    """(N, 3, H, W) -> (N, 1, H / 4, W / 4), the depth as a share of the largest; H and W must be multiples of 32.

    Args:
        ffn_up: "a", "b" or "c" for that FFN-UP block on the maps at 1/4 to 1/32 of the size; None for three BiFPN
            blocks on those at 1/8 to 1/32.
        encoder: A network of timm that gives maps of these sizes.
        channels: Of the BiFPN blocks.
        blocks: How many of them.
    """

    def __init__(
        self, ffn_up: str | None = None, encoder: str = ENCODER, *, channels: int = 64, blocks: int = 3
    ) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            encoder, pretrained=False, features_only=True, out_indices=_FINE if ffn_up else _COARSE
        )
        widths = list(self.encoder.feature_info.channels())
        decoder = FfnUp(widths, ffn_up) if ffn_up else BiFpnDecoder(widths, channels, blocks)
        self.decoder = decoder
        self.head = nn.Sequential(convolution(decoder.channels, 32, 3), nn.Conv2d(32, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.decoder(self.encoder(x))))

    def load_encoder(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of the encoder from those of the classifier that it is the beginning of.

        Raises:
            ZooError: They are those of another network.
        """
        own = self.encoder.state_dict()
        wrong = [
            name for name, value in own.items() if name not in weights or weights[name].shape != value.shape
        ]
        if wrong:
            raise ZooError(
                f"The weights are not those of {ENCODER}: {wrong[0]} is missing or of another shape."
            )
        self.encoder.load_state_dict({name: weights[name] for name in own})
