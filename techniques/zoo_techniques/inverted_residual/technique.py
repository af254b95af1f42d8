"""Inverted residual blocks in place of dense convolutions, initialised from their trained weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.options import option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class InvertedResidualConfig:
    """Options of `inverted-residual`.

    Attributes:
        which: The convolutions to replace; "first" takes the 1st, 3rd, ... of each block, "second" the
            others.
        expansion: Hidden channels over input channels.
        activation: What follows the expanding and the depthwise part.
        residual: Add the input to the result where the stride is one and the channels are equally many.
        refine: Fit the replacements to calibration activations, if there are any.
        images: Calibration images to fit on; none for :attr:`zoo.contracts.Context.fitting_images`.
    """

    which: Literal["all", "first", "second"] = option("all", help="convolutions of each block to replace")
    expansion: float = option(2.0, help="ratio of hidden channels to input channels", minimum=0.1, maximum=16)
    activation: Literal["none", "relu", "relu6"] = option(
        "none", help="what follows the expanding and the depthwise part"
    )
    residual: bool = option(True, help="add the input to the result if the shapes allow it")
    refine: bool = option(True, help="fit the replacements to calibration activations")
    images: int | None = option(
        None, help="calibration images for fitting; none: as many as its smallest layers need", minimum=1
    )


class InvertedResidual(Technique):
    """Replace k x k convolutions by a 1 x 1 to many channels, a depthwise k x k, and a linear 1 x 1 back."""

    id: ClassVar[str] = "inverted-residual"
    summary: ClassVar[str] = "replace convolutions by inverted residual blocks fitted to the trained weights"
    paper: ClassVar[str] = "Sandler et al., MobileNetV2, CVPR 2018; Guo et al., Network Decoupling, BMVC 2018"
    phase: ClassVar[Phase] = Phase.STRUCTURE
    #: each of the two replaces every dense convolution, so the other would find nothing to do
    conflicts: ClassVar[frozenset[str]] = frozenset({"depthwise"})
    Config: ClassVar[type] = InvertedResidualConfig
    config: InvertedResidualConfig

    def without_fitting(self) -> InvertedResidual:
        """Return the same with layers that are not fitted; their shapes follow from the options alone."""
        return InvertedResidual(replace(self.config, refine=False))

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with the selected convolutions replaced."""
        from zoo.surgery import find_candidates, select_candidates
        from zoo.surgery.reconstruction import fitting_batches, replace_layers
        from zoo_techniques.inverted_residual.fit import InvertedResidualReplacement, block_unsupported_reason

        config = self.config
        able = find_candidates(
            model,
            context,
            self.id,
            lambda module: block_unsupported_reason(module, config.expansion, config.activation),
        )
        return replace_layers(
            model,
            select_candidates(able, config.which, context, self.id),
            lambda layer: InvertedResidualReplacement(
                layer, config.expansion, config.activation, residual=config.residual
            ),
            fitting_batches(context, config.refine, config.images),
            context,
            self.id,
        )
