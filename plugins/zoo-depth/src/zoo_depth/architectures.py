"""Networks for the depth of each pixel: EfficientNet-B0 with a BiFPN, or with an FFN-UP block of FFNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.errors import UnknownIdError

if TYPE_CHECKING:
    from torch import nn

    from zoo_depth.network import DepthNetwork

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDE = 224
#: The three FFN-UP blocks.
_BLOCKS = ("a", "b", "c")


class _DepthArchitecture(Architecture):
    """An image of 224 x 224 pixels to depths at a quarter of the size, as shares of the largest depth."""

    family: ClassVar[bool] = True
    task = "depth"
    input = InputSpec(
        "rgb", 3, multiple_of=32, example=(_SIDE, _SIDE), fixed_size=True, mean=_MEAN, std=_STD, crop_pct=1.0
    )
    output = OutputSpec("tensor", 1)


class DepthBiFpnArchitecture(_DepthArchitecture):
    """Three BiFPN blocks on the maps of EfficientNet-B0; `depth-bifpn:TAG` starts with timm's weights of that tag.

    Raises:
        UnknownIdError: timm has no such weights.
    """

    contract = 1
    member_optional: ClassVar[bool] = True
    summary = "depth from one image; depth-bifpn:ra_in1k starts with an encoder trained on ImageNet"
    paper = "Tan, Pang and Le, EfficientDet: Scalable and Efficient Object Detection, CVPR 2020"

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        self.id = f"depth-bifpn:{member}" if member else "depth-bifpn"
        self._encoder: Architecture | None = None
        if member:
            from zoo import plugins

            self._encoder = plugins.architecture(f"timm:efficientnet_b0.{member}")

    @property
    def weights_from(self) -> str:  # type: ignore[override]
        """Return where the weights of the encoder were loaded from; "" if they were not."""
        return self._encoder.weights_from if self._encoder else ""

    def identity(self) -> str:
        """Return where the weights of the encoder are from."""
        return self.weights_from

    def build_blank(self) -> DepthNetwork:
        from zoo_depth.network import DepthNetwork

        return DepthNetwork()

    def build(self) -> nn.Module:
        """Return the network, with the trained weights of the encoder if it is named with their tag."""
        net = self.build_blank()
        if self._encoder is not None:
            net.load_encoder(self._encoder.build().state_dict())
        return net


class DepthFfnUpArchitecture(_DepthArchitecture):
    """An FFN-UP block on the maps of EfficientNet-B0: `depth-ffn-up:a`, with fewer channels `:b`, and least `:c`.

    Raises:
        UnknownIdError: There is no such block.
    """

    contract = 1
    summary = "depth from one image with a decoder of FFNet: depth-ffn-up:a, depth-ffn-up:b or depth-ffn-up:c"
    paper = "Mehta et al., Simple and Efficient Architectures for Semantic Segmentation, CVPR workshops 2022"

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        if member not in _BLOCKS:
            raise UnknownIdError(
                f"depth-ffn-up has no member '{member or ''}'.",
                hint=f"Write one of:  {'  '.join(f'depth-ffn-up:{each}' for each in _BLOCKS)}",
            )
        self.id = f"depth-ffn-up:{member}"

    def build(self) -> nn.Module:
        from zoo_depth.network import DepthNetwork

        return DepthNetwork(self.member)
