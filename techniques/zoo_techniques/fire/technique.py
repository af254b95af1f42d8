"""Fire modules in place of dense convolutions, initialised from their trained weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.options import option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FireConfig:
    """Options of `fire`.

    Attributes:
        which: The convolutions to replace; "first" takes the 1st, 3rd, ... of each block, "second" the
            others.
        squeeze: Channels of the squeezing convolution over those of the output.
        share: Share of the outputs from the 1 x 1 branch; the rest come from the k x k one.
        activation: What follows the squeezing convolution.
        transposed: Replace transposed convolutions whose kernel is their stride by transposed fire modules,
            too.
        refine: Fit the replacements to calibration activations, if there are any.
        images: Calibration images to fit on; none for :attr:`zoo.contracts.Context.fitting_images`.
    """

    which: Literal["all", "first", "second"] = option("all", help="convolutions of each block to replace")
    squeeze: float = option(
        0.25, help="ratio of squeezed channels to output channels", minimum=0.01, maximum=1.0
    )
    share: float = option(0.5, help="share of the outputs from the 1x1 branch", minimum=0.01, maximum=0.99)
    activation: Literal["none", "relu"] = option("none", help="what follows the squeezing convolution")
    transposed: bool = option(True, help="transposed convolutions become transposed fire modules")
    refine: bool = option(True, help="fit the replacements to calibration activations")
    images: int | None = option(
        None, help="calibration images for fitting; none: as many as its smallest layers need", minimum=1
    )


class Fire(Technique):
    """Squeeze a convolution's inputs to few channels, then expand them by parallel 1 x 1 and k x k kernels."""

    id: ClassVar[str] = "fire"
    summary: ClassVar[str] = "replace convolutions by fire modules fitted to the trained weights"
    paper: ClassVar[str] = (
        "Iandola et al., SqueezeNet, 2016; Beheshti and Johnsson, Squeeze U-Net, CVPRW 2020"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    #: these leave no dense convolution behind, while there is one in every fire module
    before: ClassVar[frozenset[str]] = frozenset({"depthwise", "inverted-residual"})
    Config: ClassVar[type] = FireConfig
    config: FireConfig

    def without_fitting(self) -> Fire:
        """Return the same with layers that are not fitted; their shapes follow from the options alone."""
        return Fire(replace(self.config, refine=False))

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with the selected convolutions replaced."""
        from zoo.surgery import find_candidates, select_candidates
        from zoo.surgery.reconstruction import fitting_batches, replace_layers
        from zoo_techniques.fire.fit import FireReplacement

        config = self.config
        able = find_candidates(model, context, self.id, self._unsupported_reason)
        return replace_layers(
            model,
            select_candidates(able, config.which, context, self.id),
            lambda layer: FireReplacement(
                layer, config.squeeze, config.share, relu=config.activation == "relu"
            ),
            fitting_batches(context, config.refine, config.images),
            context,
            self.id,
        )

    def _unsupported_reason(self, module: nn.Module) -> str | None:
        from torch import nn

        from zoo_techniques.fire.fit import fire_unsupported_reason

        reason = fire_unsupported_reason(module, self.config.squeeze, self.config.share)
        if reason is None and isinstance(module, nn.ConvTranspose2d) and not self.config.transposed:
            return "transposed=false"
        return reason
