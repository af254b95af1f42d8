"""Layers that go back to float when rounding all of them loses more than the limit: as few as possible.

The order comes from a cheap estimate, the deviation of the output on the calibration data when one layer alone is
rounded; how many of the worst layers go back is decided by the score of the exported files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import fx

from zoo.errors import NoEffectError, ZooError
from zoo.formatting import scaled, seconds
from zoo.modules.output_tree import primary_output
from zoo.pipeline.loss_limit import loss_and_least
from zoo.pipeline.stages import TrainingStage
from zoo.quantization.output_deviation import OutputDeviation
from zoo.quantization.quantizer_switches import layer_errors

if TYPE_CHECKING:
    from zoo.contracts import Metric, Reporter, Session, Technique
    from zoo.pipeline.checked_export import Exported
    from zoo.pipeline.measure import Measured
    from zoo.pipeline.plan import ApplyPlan
    from zoo.pipeline.stage_runner import StageResult, StageRunner

#: How many of the layers that the search by halves found are tried without, one by one.
_MOST_DROPPED = 4


@dataclass(frozen=True)
class Attempt:
    """A network after a stage, with its file and what that scored."""

    done: StageResult
    exported: Exported
    measured: Measured
    session: Session


@dataclass(frozen=True)
class Repair:
    """What kept a stage within the limit.

    Attributes:
        technique: The technique that rounds.
        layers: Went back to float, the worst first.
        rounded: Stay rounded, in the order in which the network runs them.
        loss: What the stage lost with all layers rounded, as a sentence.
        before: The file with all layers rounded, which was not kept.
        after: The file with `layers` in float.
        lost: What the stage loses now, in points or dB.
        files: How many files were made and scored to find that out.
    """

    technique: str
    layers: tuple[str, ...]
    rounded: tuple[str, ...]
    loss: str
    before: Measured
    after: Measured
    lost: float
    files: int

    @property
    def more_bytes(self) -> int:
        """Return by how much the file grew."""
        return self.after.file_bytes - self.before.file_bytes

    @property
    def more_milliseconds(self) -> float | None:
        """Return by how much the median time of a run grew, timed interleaved; None if it was not measured."""
        if self.after.latency is None or self.before.latency is None:
            return None
        return self.after.latency.median - self.before.latency.median

    def __str__(self) -> str:
        """Return what was done and what it cost, in sentences."""
        metric = self.after.quality.limited
        assert metric is not None, "a loss was measured"
        now = f"{self.lost:.2f} {metric.budget} ({metric.show(self.after.quality.values[metric.key])})"
        slower, cost = self.more_milliseconds, f"{scaled(self.more_bytes, 'B')} more"
        if slower is not None:
            change = "slower" if slower >= 0 else "faster"
            cost += f", {seconds(abs(slower) / 1000)} a run {change}"
        return (
            f"{self.loss} Back in float: {', '.join(self.layers)}; {len(self.rounded)} layers stay rounded. "
            f"The loss is now {now}; that costs {cost}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for metrics.json and `--json`."""
        slower = self.more_milliseconds
        return {
            "technique": self.technique,
            "float_layers": list(self.layers),
            "rounded_layers": list(self.rounded),
            "lost": round(self.lost, 6),
            "more_bytes": self.more_bytes,
            "more_ms": None if slower is None else round(slower, 3),
            "files_scored": self.files,
            "without": self.before.to_json(),
        }


def repair_stage(
    plan: ApplyPlan,
    runner: StageRunner,
    first: Attempt,
    error: NoEffectError,
    before: Measured,
    attempt: Callable[[StageResult], Attempt],
    check: Callable[[Measured], None],
    reporter: Reporter,
) -> tuple[Attempt, ApplyPlan, Repair]:
    """Return the stage again, with as few layers in float as keep it within the limit, and the plan that leads there.

    Args:
        plan: With the stage as it was.
        runner: What ran the stage.
        first: The stage with all layers rounded.
        error: Why that does not do.
        before: The file before the stage.
        attempt: Exports and scores.
        check: Refuses a file that loses too much, by a NoEffectError.
        reporter: Is told what is tried.

    Raises:
        NoEffectError: `error`, if the stage has nothing to repair or no choice of layers is within the limit.
    """
    stage = first.done.stage
    technique = next(
        (each for each in reversed(stage.techniques) if each.with_float_layers(()) is not None), None
    )
    module = first.done.trained
    metric = first.measured.quality.limited
    if technique is None or stage.trains or not isinstance(module, fx.GraphModule) or metric is None:
        raise error
    ranked = _ranked(runner, module, reporter)
    found: list[Attempt] = []
    losses: dict[tuple[str, ...], float] = {}
    files = 0

    def changed(layers: Sequence[str]) -> Technique:
        other = technique.with_float_layers(tuple(layers))
        assert other is not None, "it was asked before"
        return other

    def fits(layers: Sequence[str]) -> bool:
        nonlocal files
        files += 1
        reporter.note(
            f"{technique.id}: trying {len(layers)} of {len(ranked)} layers in float: {_few(layers)}"
        )
        other = changed(layers)
        techniques = tuple(other if each is technique else each for each in stage.techniques)
        try:
            made = attempt(runner.redo(first.done, TrainingStage(techniques)))
            losses[tuple(layers)], _ = loss_and_least(metric, before.quality, made.measured.quality)
            check(made.measured)
        except ZooError as refused:
            reporter.note(refused.message)
            return False
        found[:] = [made]
        return True

    reporter.note(f"{error.message} Looking for the layers to keep in float.")
    layers = fewest(ranked, fits)
    if layers is None:
        raise NoEffectError(error.message, hint=_hint(losses, ranked, metric) or error.hint) from error
    kept = found[-1]
    rounded = tuple(path for path in ranked if path not in layers)
    repair = Repair(
        technique.id, layers, rounded, error.message, first.measured, kept.measured, losses[layers], files
    )  # fmt: skip
    return kept, plan.with_technique(technique, changed(layers)), repair


def fewest(ranked: Sequence[str], fits: Callable[[Sequence[str]], bool]) -> tuple[str, ...] | None:
    """Return the fewest layers with which it fits; the last call of `fits` that was true was with them.

    The number is doubled until it fits, narrowed down by halves, and layers before the last are then tried without,
    from the least bad one on. One layer always stays rounded.

    Args:
        ranked: The layers, the worst first.
        fits: Whether it fits with these layers in float.
    """
    low, high = 0, 1
    most = len(ranked) - 1
    if most < 1:
        return None
    while not fits(ranked[: min(high, most)]):
        if high >= most:
            return None
        low, high = high, 2 * high
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(ranked[:middle]) else (middle, high)
    layers = tuple(ranked[:high])
    for path in layers[-2 : -2 - _MOST_DROPPED : -1]:
        others = tuple(each for each in layers if each != path)
        if fits(others):
            layers = others
    return layers


def _ranked(runner: StageRunner, module: fx.GraphModule, reporter: Reporter) -> list[str]:
    """The rounded layers, those that do most harm first."""
    context = runner.context
    batches = list(context.calibration()) if context.calibration is not None else [context.example_input]
    classifies = context.architecture.output.kind == "logits"
    main = partial(primary_output, name=context.architecture.main_output)
    output = OutputDeviation(module, batches, classifies=classifies, main=main)
    return list(layer_errors(module, output.measure))


def _hint(losses: Mapping[tuple[str, ...], float], ranked: Sequence[str], metric: Metric) -> str:
    """What to do where no choice of layers was within the limit; "" if none could be tried."""
    if not losses:
        return ""
    layers = min(losses, key=lambda each: (losses[each], len(each)))
    return (
        f"Even {len(ranked) - 1} of {len(ranked)} layers in float do not keep it within the budget. The least loss is "
        f"{losses[layers]:.2f} {metric.budget}, with {_few(layers)} in float: allow it with "
        f"--max-loss {math.ceil(losses[layers] - 1e-6)}{metric.loss_unit}, or train the rounded network with qat."
    )


def _few(layers: Sequence[str]) -> str:
    return ", ".join(layers[:6]) + (", ..." if len(layers) > 6 else "")
