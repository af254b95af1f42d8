"""Residual blocks that only run for as long as a position of the image, or the image, needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Context, LossTerm, Phase, Technique
from zoo.options import option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class AdaptiveDepthConfig:
    """Options of `adaptive-depth`.

    Attributes:
        ponder: Weight of the ponder cost in training, which is 1 if all blocks are computed.
        threshold: A position halts where the sum of its scores is at least this.
        spatial: Whether each position has scores of its own; otherwise an image halts as a whole.
        at: Modules whose blocks may be skipped; none for all.
        bias: Of the scores at the start, before the sigmoid.
        images: Images that the scores are normalised by.
    """

    ponder: float = option(
        0.1, minimum=0.0, maximum=100.0, help="weight of the ponder cost, the share of blocks computed"
    )
    threshold: float = option(
        0.99, minimum=0.5, maximum=0.999, help="sum of its scores at which a position halts"
    )
    spatial: bool = option(
        True, help="scores for each position of an image; otherwise one for the whole image"
    )
    at: tuple[str, ...] = option((), help="modules whose residual blocks may be skipped; none: all")
    bias: float = option(
        -6.0, minimum=-12.0, maximum=0.0, help="of the scores at the start, before the sigmoid"
    )
    images: int = option(256, minimum=1, maximum=65536, help="images that the scores are normalised by")


class AdaptiveDepth(Technique):
    """Let positions of an image halt between the residual blocks of a stage, and skip the blocks that none needs.

    Before each block a position gets a score. Where the sum of its scores reaches the threshold it halts: its state
    stays as it is, for the blocks that its neighbours still need, and the result of the stage is the sum of its states,
    each weighted by its score, the last one by what remains. In the exported file a block is in a branch that is
    executed if at least one position of the batch goes on. The scores start near 0, and the network as it was.
    """

    contract = 1
    id: ClassVar[str] = "adaptive-depth"
    summary: ClassVar[str] = (
        "positions of an image halt between residual blocks, and blocks that none needs are skipped"
    )
    paper: ClassVar[str] = (
        "Figurnov et al., Spatially Adaptive Computation Time for Residual Networks, CVPR 2017; Graves, Adaptive "
        "Computation Time for Recurrent Neural Networks, 2016"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    must_shrink: ClassVar[bool] = False
    Config: ClassVar[type] = AdaptiveDepthConfig
    config: AdaptiveDepthConfig

    def without_fitting(self) -> AdaptiveDepth:
        """Return the same, looking at one image."""
        return AdaptiveDepth(replace(self.config, images=1))

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with scores between its residual blocks.

        Raises:
            ZooError: It has no residual blocks of one shape.
            UsageError: It has none in a module of `at`.
        """
        from zoo.surgery import Reference, propagate_shapes, trace
        from zoo_anytime.adaptive_depth.rewriting import add_halting, halting_off, made_for
        from zoo_anytime.adaptive_depth.stages import choose_stages, find_stages
        from zoo_anytime.fitting import images_of

        config, network = self.config, type(model).__name__
        module = trace(model, context.example_input)
        stages = choose_stages(find_stages(module), config.at, self.id, network)
        reference = Reference(module, context.example_input)
        images = images_of(context, config.images)
        made = made_for(module, stages, config.spatial, config.threshold, config.bias, images)
        for number, (stage, halting) in enumerate(zip(stages, made, strict=True), 1):
            add_halting(module, stage, number, halting)
            context.report.note(f"{self.id}: stage {number}, may skip {', '.join(stage.blocks)}")
        module.graph.lint()
        module.recompile()
        module.eval()
        propagate_shapes(module, context.example_input)
        with halting_off(module):
            reference.check(module, "Letting no position halt")
        return module

    def objective(self, context: Context) -> Sequence[LossTerm]:
        """Return the ponder cost."""
        from zoo_anytime.adaptive_depth.ponder_cost import PonderCost

        cost = PonderCost(self.config.threshold)
        return [LossTerm("ponder", self.config.ponder, cost.compute, begin=cost.begin)]
