"""Dense prediction at a fraction of the resolution: space-to-depth at the input, a pixel shuffle at the output."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, InputSpec, Phase, Technique
from zoo.errors import ZooError
from zoo.options import option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SpaceToDepthConfig:
    """Options of `space-to-depth`.

    Attributes:
        factor: Pixels along each side of the cells that become channels.
        detail: Pass the input's pixels to the last convolution too, so that it can place edges within a
            cell.
        refine: Fit the layers to calibration activations: the last one to its outputs at full resolution,
            the others to the averages of theirs.
        images: Calibration images to fit on; none for :attr:`zoo.contracts.Context.fitting_images`.
    """

    factor: Literal[2, 4] = option(2, help="side of the cells of pixels that become channels", unit="pixel")
    detail: bool = option(True, help="pass the input's pixels to the last convolution too")
    refine: bool = option(True, help="fit the layers to calibration activations at full resolution")
    images: int | None = option(
        None, help="calibration images for fitting; none: as many as its smallest layers need", minimum=1
    )


class SpaceToDepth(Technique):
    """Run a network whose output is an image on cells of pixels instead of pixels, for a fraction of the MACs."""

    id: ClassVar[str] = "space-to-depth"
    summary: ClassVar[str] = "run the network at 1/2 or 1/4 of the resolution, between two pixel shuffles"
    paper: ClassVar[str] = (
        "Shi et al., Real-Time Super-Resolution with Sub-Pixel Convolution, CVPR 2016 (the shuffle)"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    Config: ClassVar[type] = SpaceToDepthConfig
    config: SpaceToDepthConfig

    def adapt_input(self, spec: InputSpec) -> InputSpec:
        """Round the sides up to whole cells; the network's halo grows by `factor`."""
        cell = self.config.factor * spec.multiple_of
        height, width = (-(-side // cell) * cell for side in spec.example)
        if spec.fixed_size and (height, width) != spec.example:
            raise ZooError(
                f"{self.id}: {spec.example[1]}x{spec.example[0]} does not divide into cells of {cell}, and the network "
                "accepts no other size."
            )
        halo = None if spec.halo is None else spec.halo * self.config.factor
        return dataclasses.replace(spec, multiple_of=cell, halo=halo, example=(height, width))

    def without_fitting(self) -> SpaceToDepth:
        """Return the same with layers that are not fitted; their shapes follow from the options alone."""
        return SpaceToDepth(dataclasses.replace(self.config, refine=False))

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network at 1 / factor of its resolution.

        Raises:
            ZooError: The network's output is not as large as its input, or a multiple of that.
        """
        from zoo.surgery import propagate_shapes, trace
        from zoo.surgery.reconstruction import fitting_batches, record_outputs, refit_layers
        from zoo_techniques.space_to_depth.reduction import ResolutionReduction, check_output, scaling_layers

        factor, cell = self.config.factor, context.architecture.input.multiple_of
        module = trace(model, context.example_input)
        try:
            check_output(module)
        except ZooError as error:
            raise ZooError(
                f"{self.id} cannot run {type(model).__name__} at 1/{factor}: {error.message}."
            ) from error
        batches = [
            batch[:, :, : batch.shape[2] // cell * cell, : batch.shape[3] // cell * cell]
            for batch in fitting_batches(context, self.config.refine, self.config.images)
            if min(batch.shape[2:]) >= cell
        ]
        layers = scaling_layers(module, context.example_input, factor)
        reduced = ResolutionReduction(module, factor)
        layers = {**layers, reduced.last: reduced.wanted}
        targets = record_outputs(module, layers, batches, context, reduced.view)
        reduced.apply(detail=self.config.detail)
        propagate_shapes(module, context.example_input)
        refit_layers(module, layers, targets, batches, context, self.id)
        return module
