"""Depthwise-separable substitution of dense convolutions, initialised from their trained weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.options import option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DepthwiseConfig:
    """Options of `depthwise`.

    Attributes:
        which: The convolutions to replace. Those that hang together in one block are paired in definition
            order: "first" takes the 1st, 3rd, ... of each block, "second" the 2nd, 4th, ... A convolution's
            block is the innermost module that contains it and another candidate.
        min_kernel: Minimum of a kernel's longer side, in pixels, for it to be replaced.
        refine: Fit the replacements to calibration activations, if there are any.
        images: Calibration images to fit on; none for :attr:`zoo.contracts.Context.fitting_images`.
        bias: Which parts have a bias, where the dense convolution has one. The depthwise part's can be
            moved into the pointwise part's without changing anything.
    """

    which: Literal["all", "first", "second"] = option("all", help="convolutions of each block to replace")
    min_kernel: int = option(
        2, help="minimum of a kernel's longer side for it to be replaced", unit="pixel", minimum=2
    )
    refine: bool = option(True, help="fit the replacements to calibration activations")
    images: int | None = option(
        None, help="calibration images for fitting; none: as many as its smallest layers need", minimum=1
    )
    bias: Literal["both", "pointwise"] = option(
        "both", help="parts that have a bias, if the dense convolution has one"
    )


class Depthwise(Technique):
    """Replace dense k x k convolutions by a depthwise k x k and a pointwise 1 x 1 one."""

    id: ClassVar[str] = "depthwise"
    summary: ClassVar[str] = (
        "replace dense convolutions by depthwise-separable ones fitted to the trained weights"
    )
    paper: ClassVar[str] = "Chollet, Xception, CVPR 2017; Guo et al., Network Decoupling, BMVC 2018"
    phase: ClassVar[Phase] = Phase.STRUCTURE
    Config: ClassVar[type] = DepthwiseConfig
    config: DepthwiseConfig

    def without_fitting(self) -> Depthwise:
        """Return the same with layers that are not fitted; their shapes follow from the options alone."""
        return Depthwise(replace(self.config, refine=False))

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with the selected convolutions replaced."""
        from zoo.modules.separable import SeparableConv2d
        from zoo.surgery import find_candidates, select_candidates
        from zoo.surgery.reconstruction import fitting_batches, replace_layers
        from zoo_techniques.depthwise.fit import SeparableReplacement

        able = find_candidates(model, context, self.id, self._unsupported_reason)
        layers = select_candidates(able, self.config.which, context, self.id)
        batches = fitting_batches(context, self.config.refine, self.config.images)
        before = set(model.modules())
        model = replace_layers(model, layers, SeparableReplacement, batches, context, self.id)
        for module in model.modules() if self.config.bias == "pointwise" else ():
            if isinstance(module, SeparableConv2d) and module not in before:
                module.fold_bias()
        return model

    def _unsupported_reason(self, module: nn.Module) -> str | None:
        """Why a convolution cannot or need not be replaced; None if it can."""
        import math

        from torch import nn

        if type(module) is not nn.Conv2d:
            return f"{type(module).__name__} is not a plain Conv2d"
        kernel, taps = module.kernel_size, math.prod(module.kernel_size)
        if taps == 1:
            return "1x1 kernel"
        if module.groups > 1:
            return f"grouped already (groups={module.groups})"
        if max(kernel) < self.config.min_kernel:
            return f"{kernel[0]}x{kernel[1]} kernel, min_kernel={self.config.min_kernel}"
        if module.out_channels * taps <= taps + module.out_channels:
            return "a separable one would have no fewer parameters"
        return None
