"""The honest-effect check: a stage that changes nothing must not pass for compression."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.contracts import Phase
from zoo.cost import model_cost
from zoo.errors import NoEffectError
from zoo.pipeline.loss_limit import limit_for, loss_and_least

if TYPE_CHECKING:
    from zoo.contracts import Reporter, Technique
    from zoo.pipeline.loss_limit import LossLimit
    from zoo.pipeline.measure import Measured
    from zoo.pipeline.stages import TrainingStage
    from zoo.training.weights import StartWeights


@dataclass(frozen=True)
class Snapshot:
    """A network at one point of a recipe.

    Attributes:
        outputs: For the example input, in eval mode.
    """

    parameters: int
    nonzero: int
    macs: int
    kinds: Counter[str]
    outputs: torch.Tensor


def snapshot(model: nn.Module, example: torch.Tensor) -> Snapshot:
    """Return the state of a network for an example input (N, C, H, W); the network is not changed."""
    model = copy.deepcopy(model).eval()
    cost = model_cost(model, example)
    with torch.no_grad():
        outputs = model(example)
    return Snapshot(
        parameters=cost.parameters,
        nonzero=sum(int(torch.count_nonzero(p)) for p in model.parameters()),
        macs=cost.macs,
        kinds=Counter(type(module).__name__ for module in model.modules()),
        outputs=outputs,
    )


def check_rewrite(technique: Technique, before: Snapshot, after: Snapshot, *, adds_objective: bool) -> None:
    """Check that `technique` changed the network, did not only write zeros, and did not break the output.

    Raises:
        NoEffectError: It did otherwise.
    """
    name = technique.id
    if before.outputs.shape != after.outputs.shape:
        raise NoEffectError(
            f"{name} changed the shape of the output from {tuple(before.outputs.shape)} "
            f"to {tuple(after.outputs.shape)}."
        )
    if not torch.isfinite(after.outputs).all():
        raise NoEffectError(f"After {name} the output of the network is no longer finite.")
    same_structure = (before.parameters, before.macs, before.kinds) == (
        after.parameters,
        after.macs,
        after.kinds,
    )
    if not same_structure or adds_objective:
        return
    if torch.equal(before.outputs, after.outputs) and before.nonzero == after.nonzero:
        raise NoEffectError(
            f"{name} changed nothing: layers, weights and output are the same.",
            hint=f"Omit it, or see what it needs:  zoo info {name}",
        )
    if after.nonzero < before.nonzero:
        raise NoEffectError(
            f"{name} only wrote zeros: {before.nonzero - after.nonzero:,} weights are now zero, but the file would be "
            "as large and the engine as slow as before.",
            hint="A pruning technique must remove channels or blocks, not mask them.",
        )


def check_quality(
    stage: TrainingStage,
    before: Measured,
    after: Measured,
    start: StartWeights,
    limit: LossLimit | None,
    reporter: Reporter,
) -> None:
    """Check that the exported file lost no more quality in a stage than the limit; None allows any loss.

    A network that was never trained has no quality to lose. A loss beyond the task's own limit that chance may
    explain is only reported.

    Raises:
        NoEffectError: It lost more.
    """
    metric = after.quality.limited
    if limit is None or metric is None or not (start.trained and stage.techniques):
        return
    most = limit_for(limit, metric)
    lost, least = loss_and_least(metric, before.quality, after.quality)
    if lost <= most:
        return
    values = before.quality.values[metric.key], after.quality.values[metric.key]
    against = "" if after.quality.labelled else " with the original network"
    change = " to ".join(map(metric.show, values))
    message = f"{stage.name} lost {lost:.2f} {metric.budget}{against} ({change})"
    if not limit.stated and least <= most:
        reporter.note(
            f"Warning: {message}. With {after.quality.images} images, chance may explain what is more than {most:g}."
        )
        return
    raise NoEffectError(
        f"{message}; the budget is {most:g}.",
        hint=f"Train longer, or allow more: --max-loss {math.ceil(lost)}{metric.loss_unit}. "
        "The training so far is kept.",
    )


def check_smaller(techniques: Iterable[Technique], first: Measured, last: Measured) -> None:
    """Check that techniques that shrink a network paid in bytes or in multiplications.

    Raises:
        NoEffectError: They paid in neither.
    """
    promised = [each.id for each in techniques if each.must_shrink and each.phase is not Phase.TRAINING]
    if promised and last.file_bytes >= first.file_bytes and last.macs >= first.macs:
        raise NoEffectError(
            f"{'+'.join(promised)} saved nothing: the exported file has {last.file_bytes:,} bytes and {last.macs:,} "
            f"MACs, the original {first.file_bytes:,} and {first.macs:,}."
        )
