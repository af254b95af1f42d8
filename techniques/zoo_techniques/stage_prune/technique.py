"""Fewer stages: the deepest levels of a U-Net, or the last blocks of a classifier's stage, are taken out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.errors import UnknownIdError, UsageError, ZooError
from zoo.options import option
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo_techniques.stage_prune.blocks import Chain


@dataclass(frozen=True)
class StagePruneConfig:
    """Options of `stage-prune`.

    Attributes:
        drop: Encoder-decoder networks: how many stages to remove, the deepest first.
        decoder: Encoder-decoder networks: "drop" takes the last encoder stage and the first decoder stage
            out, so that the stage above becomes the bottom; "keep" takes out only what lies below that
            decoder stage.
        stage: Other networks: the module whose last blocks are removed, by its name; none for the deepest
            that can spare them. Named for an encoder-decoder network, it is treated like the others.
        blocks: Other networks: how many blocks of the stage to remove.
        refine: Fit the layers after the hole to calibration activations.
        images: Calibration images to fit on; none for :attr:`zoo.contracts.Context.fitting_images`.
    """

    drop: int = option(1, help="stages of an encoder-decoder network to drop, the deepest first", minimum=1)
    decoder: Literal["drop", "keep"] = option(
        "drop", help="whether the deepest decoder stage is dropped with its encoder stage"
    )
    stage: str | None = option(None, help="name of the module whose last blocks are dropped")
    blocks: int = option(1, help="blocks of that module to drop", minimum=1)
    refine: bool = option(True, help="fit the layers after the gap to calibration activations")
    images: int | None = option(
        None, help="calibration images for fitting; none: as many as its smallest layers need", minimum=1
    )


class StagePrune(Technique):
    """Remove the deepest stages, and refit the layers around the hole to the trained network's activations."""

    id: ClassVar[str] = "stage-prune"
    summary: ClassVar[str] = "remove the deepest stages, and bridge the gap by least squares"
    paper: ClassVar[str] = "Vaze, Xie and Namburete, Low-Memory CNNs Enabling Real-Time Ultrasound, JBHI 2020"
    phase: ClassVar[Phase] = Phase.STRUCTURE
    Config: ClassVar[type] = StagePruneConfig
    config: StagePruneConfig

    def without_fitting(self) -> StagePrune:
        """Return the same without fitting; which stages go follows from the options alone."""
        return StagePrune(replace(self.config, refine=False, images=1))

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network without the stages.

        Raises:
            ZooError: The network has no stage to spare.
        """
        from zoo.surgery.reconstruction import fitting_batches

        batches = fitting_batches(context, True, self.config.images)
        if self.config.stage is not None:
            return self._without_blocks(model, context, batches, f"stage={self.config.stage}")
        try:
            return self._without_levels(model, context, batches)
        except UsageError:
            raise
        except ZooError as error:
            return self._without_blocks(model, context, batches, error.message)

    def _without_levels(self, model: nn.Module, context: Context, batches: list[Tensor]) -> nn.Module:
        from zoo.surgery import propagate_shapes, trace
        from zoo.surgery.reconstruction import record_outputs, refit_layers, targets_downstream
        from zoo_techniques.stage_prune.resolution_stages import StageCut, find_encoder_stages

        module = trace(model, context.example_input)
        levels = find_encoder_stages(module, self.config.drop)
        if not batches:
            raise UsageError(f"{self.id} needs calibration data to fit the layers that bridge the gap.")
        if self.config.decoder == "drop" and levels.end is None:
            context.skip_layer(self.id, str(levels.exit), "only the output follows: its decoder stage stays")
        cut = StageCut(module, levels, decoder=self.config.decoder == "drop")
        layers = targets_downstream(module, cut.consumers)
        if not self.config.refine:
            layers = {layer: wanted for layer, wanted in layers.items() if layer in cut.consumers}
        targets = record_outputs(module, layers, batches, context)
        cut.apply()
        propagate_shapes(module, context.example_input)
        refit_layers(module, layers, targets, batches, context, self.id)
        return module

    def _without_blocks(
        self, model: nn.Module, context: Context, batches: list[Tensor], no_levels: str
    ) -> nn.Module:
        from zoo.surgery.reconstruction import record_outputs, refit_layers, targets_after
        from zoo_techniques.stage_prune.blocks import find_chains, remove_last

        chain = self._select(find_chains(model, context.example_input), type(model).__name__, no_levels)
        layers = targets_after(model, chain.removable[-1].module, context.example_input)
        batches = batches if self.config.refine else []
        targets = record_outputs(model, layers, batches, context)
        gone = remove_last(model, chain, self.config.blocks)
        refit_layers(model, layers, targets, batches, context, self.id)
        context.report.note(f"{self.id}: removed {', '.join(gone)}")
        return model

    def _select(self, chains: list[Chain], network: str, no_levels: str) -> Chain:
        """The stage to shorten."""
        blocks, stage = self.config.blocks, self.config.stage
        spare = {chain.parent: chain for chain in chains}
        if not spare:
            raise ZooError(
                f"{self.id} finds nothing to drop in {network}: {no_levels}, "
                "and no module has blocks whose last one maps its input to the same shape."
            )
        known = ", ".join(f"{name or 'the network'} ({chain.spare})" for name, chain in spare.items())
        if stage is not None and stage not in spare:
            raise UnknownIdError(
                f"{network} has no stage '{stage}' that can spare blocks{did_you_mean(stage, spare)}",
                hint=f"Stages, with how many blocks each can spare: {known}",
            )
        able = [c for name, c in spare.items() if c.spare >= blocks and stage in (None, name)]
        if not able:
            raise UsageError(
                f"{self.id} cannot drop {blocks} blocks of {stage or 'one stage'} of {network}.",
                hint=f"Stages, with how many blocks each can spare: {known}",
            )
        return able[-1]
