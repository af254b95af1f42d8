"""Thin networks inside a wide one: the first groups of all channels answer, and the others when they do not suffice."""

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
class NestedWidthConfig:
    """Options of `nested-width`.

    Attributes:
        groups: Into how many groups the channels of every layer are divided; sub-network k has the first k.
        entropy: An image leaves where the entropy of the classes is below this; one number, or one for each sub-network
            but the widest.
        weight: Of the loss of each sub-network but the widest.
        images: Images that batch norms and classifiers are set by at first.
    """

    groups: int = option(4, minimum=2, maximum=8, help="groups of channels; sub-network k has the first k")
    entropy: tuple[float, ...] = option(
        (0.3,), minimum=0.0, unit="nat",
        help="an image leaves where the entropy of the classes is below this; one number, or one per sub-network",
    )  # fmt: skip
    weight: float = option(1.0, minimum=0.0, maximum=100.0, help="weight of the loss of each sub-network")
    images: int = option(512, minimum=16, maximum=65536, help="images for batch norms and classifiers")

    def __post_init__(self) -> None:
        if not self.entropy:
            raise ValueError("entropy needs at least one number")


class NestedWidth(Technique):
    """Divide the channels of a trained classifier into groups that see themselves and those before them.

    The first k groups of all layers are a network of their own, with batch norms and a classifier of its own; the next
    sub-network computes only its own group on top of what is there. An image leaves at the first one that is sure of
    it, and in the exported file the other groups are in branches that are skipped. The weights by which a group would
    see later ones are left out, so that the whole takes (groups + 1) / (2 groups) of the multiplications.
    """

    contract = 1
    id: ClassVar[str] = "nested-width"
    summary: ClassVar[str] = (
        "thin networks inside a wide one: easy images take only the first groups of channels"
    )
    paper: ClassVar[str] = "Lee and Shin, Anytime Neural Prediction via Slicing Networks Vertically, 2018"
    phase: ClassVar[Phase] = Phase.STRUCTURE
    #: both number their exits from 1
    conflicts: ClassVar[frozenset[str]] = frozenset({"early-exit"})
    Config: ClassVar[type] = NestedWidthConfig
    config: NestedWidthConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with its channels divided.

        Raises:
            ZooError: The network is not a classifier that ends in a linear layer, or has operations whose channels
                cannot be followed.
            UsageError: The number of entropies is wrong.
        """
        import copy

        from zoo.surgery import propagate_shapes, trace
        from zoo_anytime.decisions import add_decisions, check_classifier, thresholds_of
        from zoo_anytime.nested_width.groups import ChannelGroups
        from zoo_anytime.nested_width.slicing import sliced
        from zoo_anytime.nested_width.starting import set_norms_and_classifiers

        check_classifier(context.architecture, self.id)
        thresholds = thresholds_of(
            self.config.entropy, self.config.groups - 1, self.id, "sub-networks besides the widest",
            "nested-width(groups=3,entropy=[0.2,0.4])",
        )  # fmt: skip
        module = trace(model, context.example_input)
        _check_last(module, self.id)
        groups = ChannelGroups(module, self.config.groups)
        original = copy.deepcopy(module)
        made, features, logits = sliced(module, groups, self.config.groups)
        set_norms_and_classifiers(made, original, features, logits, self.config.images, context)
        add_decisions(made, logits[:-1], logits[-1], thresholds)
        propagate_shapes(made, context.example_input)
        return made

    def objective(self, context: Context) -> Sequence[LossTerm]:
        """Return the loss of the narrower sub-networks."""
        from zoo_anytime.exit_loss import ExitLoss

        loss = ExitLoss()
        return [LossTerm("sub-networks", self.config.weight, loss.compute, begin=loss.begin)]


def _check_last(module: fx.GraphModule, technique: str) -> None:
    from torch import fx, nn

    from zoo.surgery import layer_of

    (returned,) = next(node for node in module.graph.nodes if node.op == "output").args
    if not isinstance(returned, fx.Node) or type(layer_of(module, returned)) is not nn.Linear:
        raise ZooError(
            f"{technique} needs a network that ends in a linear layer.",
            hint="Other networks may have exits on the way:  early-exit",
        )
