"""What was measured before and after a recipe, as the rows of a table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.artifacts.figures import Figure
from zoo.tasks.built_in_metrics import METRICS

if TYPE_CHECKING:
    from zoo.contracts import Metric
    from zoo.evaluation.quality import Quality
    from zoo.pipeline.measure import Measured
    from zoo.pipeline.plan import ApplyPlan


def figures(plan: ApplyPlan, files: Sequence[Measured]) -> list[Figure]:
    """Return the rows of the before/after table, each with how it was measured."""
    first, last = files[0], files[-1]
    spec = plan.architecture.input
    size = f"{spec.channels}x{spec.example[0]}x{spec.example[1]} input"
    rows = [
        Figure("parameters", "parameters", "", first.parameters, last.parameters, "weights and biases in model.onnx"),
        Figure(
            "gmacs", "multiply-accumulates", "G", first.macs / 1e9, last.macs / 1e9,
            f"convolutions, transposed convolutions and matrix products of model.onnx for a {size}",
        ),
        Figure("file_mb", "model.onnx", "MB", first.file_bytes / 1e6, last.file_bytes / 1e6, "size of the file"),
    ]  # fmt: skip
    if first.latency and last.latency:
        rows.append(
            Figure(
                "latency_ms", "latency", "ms", round(first.latency.median, 2), round(last.latency.median, 2),
                f"median of interleaved runs in ONNX Runtime on the machine that made it, {size}; compare the ratio",
            )
        )  # fmt: skip
    return rows + _quality_rows(first, last, _eval_command(plan), _against(plan))


def _eval_command(plan: ApplyPlan) -> str:
    if not isinstance(plan.request.data, str):
        return "the data that the program passed"
    limit = f" --images {plan.request.images}" if plan.request.images else ""
    return f"zoo eval {shlex.quote(str(plan.request.out))} --data {shlex.quote(plan.data)}{limit}"


def _against(plan: ApplyPlan) -> str:
    """Return what to type to compare with the network before the recipe."""
    name = plan.request.architecture
    if not (isinstance(plan.request.data, str) and isinstance(name, str)):
        return ""
    if plan.start.named:
        return f"--against {shlex.quote(plan.start.label)}"
    request = plan.request
    weights = "" if request.weights in ("auto", "none") else f" --weights {shlex.quote(request.weights)}"
    weights += f" --weights-key {shlex.quote(request.weights_key)}" if request.weights_key else ""
    weights += " --partial" if request.partial else ""
    seed = f" --seed {request.seed}" if request.seed else ""
    before = shlex.quote(str(request.out.with_name(f"{request.out.name}-before")))
    made = f"zoo train {shlex.quote(name)}{weights}{seed} --steps 0 --out {before}"
    return f"--against {before}, which this writes: {made}"


def _quality_rows(first: Measured, last: Measured, command: str, against: str) -> list[Figure]:
    before, after = first.quality, last.quality
    if after.labelled:
        how = f"over {after.images:,} images not used for training: {command}"
    else:
        how = f"against the net before, on {after.images:,} images: {command} {against}".rstrip()
    rows = [
        Figure(
            each.key, each.name, each.unit,
            round(before.values[each.key], _digits(each)) if after.labelled or each.loss_unit else None,
            round(after.values[each.key], _digits(each)), _interval(after, each) + how,
        )
        for each in after.metrics
        if each.shown
    ]  # fmt: skip
    return rows + [
        Figure(f"{name}_{key}", f"{name}, {METRICS[key].name}", METRICS[key].unit, None, round(value, 2), how)
        for name, values in after.extras.items()
        for key, value in values.items()
        if METRICS[key].shown
    ]


def _digits(metric: Metric) -> int:
    return metric.decimals + (3 if metric.percent else 1)


def _interval(quality: Quality, metric: Metric) -> str:
    interval = quality.intervals.get(metric.key)
    return f"95 % interval {metric.show_interval(interval)}, " if interval else ""
