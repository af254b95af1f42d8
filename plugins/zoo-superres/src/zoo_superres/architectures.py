"""Networks that enlarge photographs: the SESR family on the luma, and a BiFPN over a residual encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.errors import UnknownIdError

if TYPE_CHECKING:
    from torch import nn

_SESR = "Bhardwaj et al., Collapsible Linear Blocks for Super-Efficient Super Resolution, MLSys 2022"
_BIFPN = "Tan, Pang and Le, EfficientDet: Scalable and Efficient Object Detection, CVPR 2020"


class _Enlarging(Architecture):
    """A network from RGB to larger RGB; the member of the family is the factor, x2 if none is named."""

    family: ClassVar[bool] = True
    member_optional: ClassVar[bool] = True
    task = "super-resolution"
    #: What the architecture is called without its factor.
    base: ClassVar[str]
    factors: ClassVar[tuple[int, ...]]

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        known = {f"x{factor}": factor for factor in self.factors}
        if member is not None and member not in known:
            raise UnknownIdError(
                f"{self.base} has no member '{member}'.",
                hint=f"Write one of:  {'  '.join(f'{self.base}:{each}' for each in known)}",
            )
        self.factor = known[member or "x2"]
        self.id = f"{self.base}:{member}" if member else self.base
        self.output = OutputSpec("rgb", 3, scale=self.factor)


class _SesrArchitecture(_Enlarging):
    """SESR: a chain of convolutions of which each is trained as two; see :class:`zoo_superres.sesr.Sesr`."""

    paper = _SESR
    factors = (2, 4)
    blocks: ClassVar[int]
    width: ClassVar[int] = 16
    expansion: ClassVar[int] = 256

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        # Two pixels for each of the 5 x 5 convolutions, one for each block.
        self.input = InputSpec("rgb", 3, example=(128, 128), halo=4 + self.blocks)

    def build(self) -> nn.Module:
        from zoo_superres.luma import LumaNetwork
        from zoo_superres.sesr import Sesr

        return LumaNetwork(Sesr(self.blocks, self.width, self.expansion, self.factor), self.factor)


class SesrM3Architecture(_SesrArchitecture):
    """8,912 weights for x2 after `collapse`."""

    contract = 1
    base = "sesr-m3"
    summary = "super-resolution of photographs by 2 or 4 (sesr-m3:x4); 8,912 weights once collapsed"
    blocks = 3


class SesrM5Architecture(_SesrArchitecture):
    """13,520 weights for x2 after `collapse`."""

    contract = 1
    base = "sesr-m5"
    summary = "super-resolution of photographs by 2 or 4 (sesr-m5:x4); 13,520 weights once collapsed"
    blocks = 5


class SesrM7Architecture(_SesrArchitecture):
    """18,128 weights for x2 after `collapse`."""

    contract = 1
    base = "sesr-m7"
    summary = "super-resolution of photographs by 2 or 4 (sesr-m7:x4); 18,128 weights once collapsed"
    blocks = 7


class SesrM11Architecture(_SesrArchitecture):
    """27,344 weights for x2 after `collapse`."""

    contract = 1
    base = "sesr-m11"
    summary = "super-resolution of photographs by 2 or 4 (sesr-m11:x4); 27,344 weights once collapsed"
    blocks = 11
    expansion = 64


class SesrXlArchitecture(_SesrArchitecture):
    """105,376 weights for x2 after `collapse`."""

    contract = 1
    base = "sesr-xl"
    summary = "super-resolution of photographs by 2 or 4 (sesr-xl:x4); 105,376 weights once collapsed"
    blocks = 11
    width = 32
    expansion = 64


class BiFpnSrArchitecture(_Enlarging):
    """A residual encoder, a BiFPN over all of its resolutions, and a pixel shuffle; x2, x3 and x4."""

    contract = 1
    base = "bifpn-sr"
    summary = "super-resolution by 2, 3 or 4 (bifpn-sr:x3), with context from five resolutions"
    paper = _BIFPN
    factors = (2, 3, 4)
    input = InputSpec("rgb", 3, multiple_of=16, example=(128, 128))

    def build(self) -> nn.Module:
        from zoo_superres.bifpn import BiFpnSr

        return BiFpnSr(self.factor)
