"""Exits on the way through a classifier: an image leaves at the first that is sure of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Context, LossTerm, Phase, Technique
from zoo.errors import ZooError
from zoo.options import option

if TYPE_CHECKING:
    from torch import fx, nn


@dataclass(frozen=True)
class EarlyExitConfig:
    """Options of `early-exit`.

    Attributes:
        exits: How many exits to add, at equal distances in multiplications.
        at: Modules after which the exits are, instead of `exits`.
        entropy: An image leaves where the entropy of the classes is below this; one for all exits, or one for each.
        layers: Convolutions of an exit, before its classifier.
        weight: Of the loss of each exit in training.
        last_weight: Of the loss of the network's own output.
        joint: Whether the network is trained together with its exits. Otherwise only the exits are, which takes a
            fraction of the time, and the network's own answers stay as they are.
        images: Images that the classifiers of the exits are fitted on.
    """

    exits: int = option(2, minimum=1, maximum=8, help="how many exits to add, at equal distances in MACs")
    at: tuple[str, ...] = option((), help="modules after which the exits are; instead of exits")
    entropy: tuple[float, ...] = option(
        (0.3,), minimum=0.0, unit="nat",
        help="an image leaves where the entropy of the classes is below this; one number, or one per exit",
    )  # fmt: skip
    layers: int = option(2, minimum=0, maximum=4, help="convolutions of an exit, before its classifier")
    weight: float = option(1.0, minimum=0.0, maximum=100.0, help="weight of the loss of each exit")
    last_weight: float = option(0.3, minimum=0.0, maximum=100.0, help="weight of the loss of the last output")
    joint: bool = option(True, help="train the network with its exits; otherwise only the exits")
    images: int = option(
        512, minimum=16, maximum=65536, help="images that the exits' classifiers are fitted on"
    )

    def __post_init__(self) -> None:
        if not self.entropy:
            raise ValueError("entropy needs at least one number")


class EarlyExit(Technique):
    """Add exits to a trained classifier, and export it so that an image which leaves early costs no more.

    The network is cut at tensors that all data passes through. An exit is a few convolutions and a classifier, which
    starts as the least-squares fit to the trained network's logits. In the exported file everything after an exit is in
    a branch that is only executed if at least one image of the batch goes on; the answers do not depend on the batch.
    """

    contract = 1
    id: ClassVar[str] = "early-exit"
    summary: ClassVar[str] = "exits on the way: easy images leave early, and the rest of the work is skipped"
    paper: ClassVar[str] = (
        "Teerapittayanon, McDanel and Kung, BranchyNet: Fast Inference via Early Exiting, ICPR 2016"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    must_shrink: ClassVar[bool] = False
    Config: ClassVar[type] = EarlyExitConfig
    config: EarlyExitConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with exits.

        Raises:
            ZooError: The network is not a classifier, or nowhere passes all data through one tensor.
            UsageError: A module of `at` has no such tensor, or the number of entropies is wrong.
        """
        from zoo.surgery import Reference, propagate_shapes, trace
        from zoo_anytime.decisions import check_classifier, exits_closed, thresholds_of
        from zoo_anytime.early_exit.exits import add_exits
        from zoo_anytime.early_exit.places import choose_places, find_places

        check_classifier(context.architecture, self.id)
        module = trace(model, context.example_input)
        _check_output(module, self.id)
        places = choose_places(find_places(module), self.config.at, self.config.exits, self.id)
        example = "early-exit(exits=2,entropy=[0.2,0.4])"
        thresholds = thresholds_of(self.config.entropy, len(places), self.id, "exits", example)
        reference = Reference(module, context.example_input)
        add_exits(module, places, thresholds, self.config.layers, self.config.images, context)
        propagate_shapes(module, context.example_input)
        with exits_closed(module):
            reference.check(module, "Adding exits that no image leaves by")
        for number, place in enumerate(places, 1):
            context.report.note(f"{self.id}: exit {number} after {place.name}, {place.share:.0%} of the way")
        return module

    def objective(self, context: Context) -> Sequence[LossTerm]:
        """Return the loss of the exits, and the weight of the last output's."""
        from zoo_anytime.exit_loss import ExitLoss

        loss = ExitLoss(self.config.joint)
        terms = [LossTerm("exits", self.config.weight, loss.compute, begin=loss.begin)]
        if self.config.joint and self.config.last_weight != 1:
            terms.append(LossTerm("last", self.config.last_weight - 1, loss.compute, scales_task=True))
        return terms


def _check_output(module: fx.GraphModule, technique: str) -> None:
    from torch import fx

    from zoo.surgery import shape_of

    (returned,) = next(node for node in module.graph.nodes if node.op == "output").args
    shape = shape_of(returned) if isinstance(returned, fx.Node) else None
    if shape is None or len(shape) != 2:
        raise ZooError(f"{technique} needs a network that returns one tensor of logits, (N, classes).")
