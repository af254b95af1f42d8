"""The honest-effect check: a stage that changes nothing must not pass for compression."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.contracts import Phase
from zoo.cost import model_cost
from zoo.errors import NoEffectError
from zoo.modules.copying import copied
from zoo.modules.output_tree import tensors_of
from zoo.pipeline.loss_limit import limit_for, loss_and_least
from zoo.runner.timing import latency_ratio
from zoo.tasks.built_in_metrics import METRICS

if TYPE_CHECKING:
    from zoo.contracts import Reporter, Technique
    from zoo.evaluation.quality import Quality
    from zoo.pipeline.loss_limit import LossLimit
    from zoo.pipeline.measure import Measured
    from zoo.pipeline.stages import TrainingStage
    from zoo.training.weights import StartWeights


#: The share of a task's own limit from which on a loss is reported.
_MUCH = 0.2
#: Times as long as the original from which a file is called slower.
_SLOWER = 1.1


@dataclass(frozen=True)
class Snapshot:
    """A network at one point of a recipe.

    Attributes:
        outputs: By name, for the example input, in eval mode.
    """

    parameters: int
    nonzero: int
    macs: int
    kinds: Counter[str]
    outputs: Mapping[str, torch.Tensor]


def snapshot(model: nn.Module, example: torch.Tensor) -> Snapshot:
    """Return the state of a network for an example input (N, C, H, W); the network is not changed."""
    model = copied(model).eval()
    cost = model_cost(model, example)
    with torch.no_grad():
        outputs = tensors_of(model(example))
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
    shapes = [
        {output: tuple(value.shape) for output, value in each.outputs.items()} for each in (before, after)
    ]
    if shapes[0] != shapes[1]:
        was, is_now = (_shapes(each) for each in shapes)
        raise NoEffectError(f"{name} changed the shape of the output from {was} to {is_now}.")
    if not all(torch.isfinite(value).all() for value in after.outputs.values()):
        raise NoEffectError(f"After {name} the output of the network is no longer finite.")
    same_structure = (before.parameters, before.macs, before.kinds) == (
        after.parameters,
        after.macs,
        after.kinds,
    )
    if not same_structure or adds_objective:
        return
    same = all(torch.equal(value, after.outputs[output]) for output, value in before.outputs.items())
    if same and before.nonzero == after.nonzero:
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


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a shape, or those of several outputs with their names."""
    return ", ".join(f"{name} {each}" if len(shapes) > 1 else str(each) for name, each in shapes.items())


def check_quality(
    stage: TrainingStage,
    before: Measured,
    after: Measured,
    start: StartWeights,
    limit: LossLimit | None,
    reporter: Reporter,
) -> None:
    """Check that the exported file lost no more quality in a stage than the limit; None allows any loss.

    A network that was never trained has no quality to lose. Where the limit is the task's own, a loss beyond it that
    chance may explain is only reported, and so is one that is much within it. A loss that the user allows is reported
    where the task would not have allowed it.

    Raises:
        NoEffectError: It lost more.
    """
    metric = after.quality.limited
    if metric is None or not (start.trained and stage.techniques):
        return
    if limit is not None:
        _check_extras(stage, before.quality, after.quality, limit)
    most = math.inf if limit is None else limit_for(limit, metric)
    stated = limit is None or limit.stated
    usual = most if metric.limit is None else metric.limit
    lost, least = loss_and_least(metric, before.quality, after.quality)
    if lost <= most and (lost <= usual if stated else least <= 0 or lost < most * _MUCH):
        return
    values = before.quality.values[metric.key], after.quality.values[metric.key]
    against = "" if after.quality.labelled else " with the original network"
    change = " to ".join(map(metric.show, values))
    message = f"{stage.name} lost {lost:.2f} {metric.budget}{against} ({change})"
    if lost <= most:
        allowed = "; --max-loss allows it." if stated else "; --max-loss states another limit."
        reporter.note(f"Warning: {message}. The task allows a loss of {usual:g}{allowed}")
        return
    if not stated and least <= most:
        reporter.note(
            f"Warning: {message}. With {after.quality.images} images, chance may explain what is more than {most:g}."
        )
        return
    raise NoEffectError(
        f"{message}; the budget is {most:g}.",
        hint=f"{_remedy(stage)}, or allow more: --max-loss {math.ceil(lost - 1e-6)}{metric.loss_unit}."
        + (" The training so far is kept." if stage.trains else ""),
    )


def _remedy(stage: TrainingStage) -> str:
    """What regains quality that a stage lost."""
    if stage.trains:
        return "Train longer"
    if stage.numerics:
        return (
            "Train with the rounding (qat in place of ptq), calibrate on data like the network's own (--data)"
        )
    return "Train after it:  RECIPE+distill, RECIPE+qat"


def _check_extras(stage: TrainingStage, before: Quality, after: Quality, limit: LossLimit) -> None:
    """Check that the outputs besides the main one still follow the original's, unless the user stated a limit.

    Raises:
        NoEffectError: One does not.
    """
    for name, values in after.extras.items():
        for key, value in values.items():
            metric = METRICS[key]
            if limit.stated or metric.limit is None or key not in before.extras.get(name, {}):
                continue
            lost = metric.lost(before.extras[name][key], value)
            if lost > metric.limit:
                raise NoEffectError(
                    f"The output '{name}' no longer follows the original's after {stage.name}: {metric.name} is "
                    f"{metric.show(value)}; the budget is {metric.limit:g} {metric.loss_unit}.",
                    hint=f"{_remedy(stage)}, or allow any loss:  --max-loss none",
                )


def slower_remark(first: Measured, last: Measured) -> str:
    """Return a warning where the file of a recipe is slower than the original's on this machine; "" otherwise.

    Both are timed in turn, so that a busy machine affects both; what the quartiles leave open is no warning.
    """
    if first is last or first.latency is None or last.latency is None:
        return ""
    ratio, low, _ = latency_ratio(last.latency, first.latency)
    if low <= 1 or ratio < _SLOWER:
        return ""
    return (
        f"Warning: here, on the processor, the file takes {ratio:.2f} times as long as the original. Small layers, "
        "layers left in float between rounded ones, and processors without instructions for int8 cost more than "
        "rounding saves. It may be faster on another device:  zoo bench, or --device NAME."
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
