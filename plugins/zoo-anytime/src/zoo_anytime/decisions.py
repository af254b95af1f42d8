"""What decides that an image leaves, and between which answers; the names by which files and runners know exits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn

from zoo.contracts import Architecture
from zoo.errors import UsageError, ZooError
from zoo.surgery import unused_name

#: What the modules of the exits are called, with a number; their classifiers are at ``exit_1.classifier``.
PREFIX = "exit_"


class Decision(nn.Module):
    """The logits of an exit for images that it is sure of, and those of what comes later for the others.

    Two tensors (N, classes) -> one. While training it passes the later ones on: every image goes all the way, so that
    all exits learn from all images.

    Args:
        entropy: Of the classes, in nats, below which an exit counts as sure.
    """

    entropy: Tensor

    def __init__(self, entropy: float) -> None:
        super().__init__()
        self.register_buffer("entropy", torch.tensor([entropy]))

    def forward(self, early: Tensor, late: Tensor) -> Tensor:
        if self.training:
            # Where only the exits learn, the result must depend on them for its loss to have a gradient, which is 0.
            return late if late.requires_grad else late + 0 * early
        found = -(early.softmax(dim=1) * early.log_softmax(dim=1)).sum(dim=1, keepdim=True)
        return torch.where(found < self.entropy, early, late)


def check_classifier(architecture: Architecture, technique: str) -> None:
    """Refuse networks that return no logits.

    Raises:
        ZooError: This one does not.
    """
    if architecture.output.kind != "logits":
        raise ZooError(
            f"{technique} is for classifiers; {architecture.id} outputs {architecture.output.kind}.",
            hint="See what else there is:  zoo list techniques",
        )


def thresholds_of(
    given: tuple[float, ...], exits: int, technique: str, what: str, example: str
) -> tuple[float, ...]:
    """Return one entropy for each exit from one for all, or from one for each.

    Args:
        given: Entropies, in nats.
        exits: How many there must be.
        technique: Whose option they are.
        what: The exits, as messages call them.
        example: The technique with entropies that are right.

    Raises:
        UsageError: There are neither one nor `exits` of them.
    """
    if len(given) not in (1, exits):
        raise UsageError(
            f"{technique} has {exits} {what}, but {len(given)} entropies.",
            hint=f"State one for all, or one for each:  {example}",
        )
    return given * exits if len(given) == 1 else given


def add_decisions(
    module: fx.GraphModule, early: Sequence[fx.Node], last: fx.Node, thresholds: Sequence[float]
) -> None:
    """Let a network answer with the first logits that it is sure of.

    Args:
        module: The traced network, changed in place.
        early: The logits of the exits, in order.
        last: Those of the end.
        thresholds: Of the entropy, one for each exit.
    """
    output = next(node for node in module.graph.nodes if node.op == "output")
    device, late = next(module.parameters()).device, last
    with module.graph.inserting_before(output):
        apart = list(enumerate(zip(early, _told_apart(thresholds), strict=True), 1))
        for number, (call, entropy) in reversed(apart):
            name = unused_name(module, f"decision_{number}")
            module.add_submodule(name, Decision(entropy).to(device))
            late = module.graph.call_module(name, (call, late))
    output.args = (late,)
    module.graph.lint()
    module.recompile()
    module.eval()


def _told_apart(thresholds: Sequence[float]) -> list[float]:
    """The thresholds, those that are equal a rounding apart: exporters store equal numbers only once.

    In the file each exit is to have one of its own, which can be changed.
    """
    found: list[Tensor] = []
    for entropy in map(torch.tensor, thresholds):
        while any(torch.equal(entropy, other) for other in found):
            entropy = torch.nextafter(entropy, torch.tensor(torch.inf))
        found.append(entropy)
    return [float(entropy) for entropy in found]


@contextmanager
def exits_closed(module: nn.Module) -> Iterator[None]:
    """Let no image leave early while the body runs."""
    decisions = [each for each in module.modules() if isinstance(each, Decision)]
    kept = [each.entropy for each in decisions]
    for each in decisions:
        each.entropy = torch.full_like(each.entropy, -1.0)
    try:
        yield
    finally:
        for each, entropy in zip(decisions, kept, strict=True):
            each.entropy = entropy
