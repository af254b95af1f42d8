"""Low-rank factorization of convolutions and linear layers, initialised from their trained weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from zoo.contracts import Context, Phase, Technique
from zoo.options import option

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class LowRankConfig:
    """Options of `low-rank`.

    Attributes:
        kind: How a k x k layer is split, r being the rank: `output` k x k to r channels, then 1 x 1;
            `spatial` k x 1, then 1 x k; `input` 1 x 1, then k x k; `tucker` 1 x 1, k x k, 1 x 1; `auto` the
            one of the first three that is nearest to the layer. Linear and 1 x 1 layers become two.
        ratio: Share of each layer's weights and multiplications that is kept.
        energy: In place of `ratio`: share of the output's variance that the rank must keep.
        rank: In place of `ratio`: the rank itself (for each group of channels).
        linear: Factorize linear layers too.
        min_parameters: Layers with fewer weights stay as they are.
        refine: Fit the factors to calibration activations, if there are any.
        images: Calibration images to fit on; none for :attr:`zoo.contracts.Context.fitting_images`.
    """

    kind: Literal["auto", "output", "spatial", "input", "tucker"] = option(
        "auto", help="how a k x k layer is split"
    )
    ratio: float = option(
        0.5, help="share of each layer's weights and multiplications to keep", minimum=0.01, maximum=0.99
    )
    energy: float | None = option(
        None, help="instead of ratio: share of the output's variance to keep", minimum=0.01, maximum=1.0
    )
    rank: int | None = option(None, help="instead of ratio: the rank of each group", minimum=1)
    linear: bool = option(True, help="factorize linear layers too")
    min_parameters: int = option(2048, help="layers with fewer weights are left alone", minimum=1)
    refine: bool = option(True, help="fit the factors to calibration activations")
    images: int | None = option(
        None, help="calibration images for fitting; none: as many as its smallest layers need", minimum=1
    )

    def __post_init__(self) -> None:
        if self.energy is not None and self.rank is not None:
            raise ValueError("energy and rank cannot be combined: both say how far to go; use one of them")


class LowRank(Technique):
    """Split layers into two or three of lower rank, where that saves weights and multiplications."""

    id: ClassVar[str] = "low-rank"
    summary: ClassVar[str] = "split convolutions and linear layers into products of smaller ones"
    paper: ClassVar[str] = "Jaderberg et al., BMVC 2014; Zhang et al., TPAMI 2016; Kim et al., ICLR 2016"
    phase: ClassVar[Phase] = Phase.STRUCTURE
    Config: ClassVar[type] = LowRankConfig
    config: LowRankConfig

    def without_fitting(self) -> LowRank | None:
        """Return the same without fitting; None if forms or ranks depend on what the layers compute."""
        if self.config.kind == "auto" or self.config.energy is not None:
            return None
        return LowRank(replace(self.config, refine=False))

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with the layers that allow it replaced."""
        from zoo.surgery import find_candidates
        from zoo.surgery.reconstruction import fitting_batches, replace_layers
        from zoo_techniques.low_rank.fit import LowRankReplacement, Size

        config = self.config
        able = find_candidates(model, context, self.id, self._unsupported_reason, linear=config.linear)
        size = Size(config.ratio, config.energy, config.rank)
        return replace_layers(
            model,
            {module: name for name, module in able.items()},
            lambda layer: LowRankReplacement(layer, config.kind, size),
            fitting_batches(context, config.refine, config.images),
            context,
            self.id,
        )

    def _unsupported_reason(self, module: nn.Module) -> str | None:
        """Why a layer cannot or need not be replaced; None if it can."""
        from torch import nn

        if type(module) not in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
            return f"{type(module).__name__} is not a plain Conv2d, ConvTranspose2d or Linear"
        weights = cast("Tensor", module.weight).numel()
        if weights < self.config.min_parameters:
            return f"{weights} weights, min_parameters={self.config.min_parameters}"
        return None
