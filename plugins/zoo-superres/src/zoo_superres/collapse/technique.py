"""Linear convolutions in a row, and in parallel, become the one convolution that they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Context, Phase, Technique
from zoo.errors import NoEffectError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CollapseConfig:
    """`collapse` has no options."""


class Collapse(Technique):
    """Fold what a network was only trained with: wide convolutions, parallel branches, links around a convolution.

    Convolutions and batch norms with nothing between them are one linear map, and so are sums of such maps of one
    tensor. Each is replaced by a single convolution where that computes the same at every pixel, the border included,
    and needs no more multiplications. The result is exact up to rounding; what cannot be folded is reported.
    """

    contract = 1
    id: ClassVar[str] = "collapse"
    summary: ClassVar[str] = (
        "linear convolutions in a row or in parallel become one: train wide, run narrow, exactly"
    )
    paper: ClassVar[str] = (
        "Bhardwaj et al., Collapsible Linear Blocks, MLSys 2022; Ding et al., RepVGG, CVPR 2021"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    needs_training: ClassVar[bool] = False
    Config: ClassVar[type] = CollapseConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with the folded convolutions.

        Raises:
            NoEffectError: Nothing can be folded.
            DisagreementError: The folded network computes something else.
        """
        from zoo.surgery import Reference, clean_up_graph, propagate_shapes, trace
        from zoo_superres.collapse.folding import apply_folds, find_folds

        module = trace(model, context.example_input)
        reference = Reference(module, context.example_input)
        folds, kept = find_folds(module)
        for name, reason in kept.items():
            context.skip_layer(self.id, name, reason)
        if not folds:
            raise NoEffectError(
                f"{self.id} finds no convolutions in {type(model).__name__} that could be folded into one: there is "
                "something between all of them.",
                hint="Train a network with linear blocks or parallel branches:  zoo train sesr-m5",
            )
        apply_folds(module, folds)
        clean_up_graph(module)
        propagate_shapes(module, context.example_input)
        reference.check(module, "Folding linear convolutions")
        layers, was, now = (sum(getattr(fold, key) for fold in folds) for key in ("layers", "was", "cost"))
        context.report.note(
            f"{self.id}: {layers} layers became {len(folds)}, with {now / 1e6:.2f} M multiplications for the example "
            f"input instead of {was / 1e6:.2f} M"
        )
        return module
