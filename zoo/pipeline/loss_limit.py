"""How much quality a stage may lose: ``--max-loss 1pt``, ``0.3dB``, ``3``, ``none``, or by the task."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from zoo.errors import UsageError
from zoo.tasks.scorers import Z95

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.contracts import Metric, Task
    from zoo.contracts.task import LossUnit
    from zoo.evaluation.quality import Quality

_FORM = re.compile(r"([+-]?\d+\.?\d*(?:[eE][+-]?\d+)?|[+-]?\.\d+)\s*(dB|pt|%)?", re.IGNORECASE)
_UNITS: dict[str, LossUnit] = {"db": "dB", "pt": "pt", "%": "pt"}
_NEXT = "Write it as in --max-loss 1pt (points), 0.3dB, 3 (in what the task counts in), auto or none"

#: What `--max-loss` may be: a number, a text with a unit, "auto" for the task's own limit, None for any loss.
MaxLoss = float | str | None


@dataclass(frozen=True)
class LossLimit:
    """The most that a stage may lose.

    Attributes:
        most: In the unit.
        unit: Empty for what the measure is counted in.
        stated: Whether the user stated it; the limit of a task only counts beyond what chance explains.
    """

    most: float
    unit: LossUnit | None = None
    stated: bool = True


def parse_limit(text: MaxLoss) -> LossLimit | None:
    """Return the limit that a text states; one of infinity, not stated, for "auto"; None for any loss.

    Raises:
        UsageError: It is malformed.
    """
    if text is None or text == "none":
        return None
    if text == "auto":
        return LossLimit(math.inf, stated=False)
    if isinstance(text, (int, float)):
        return LossLimit(float(text))
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--max-loss is '{text[:50]}', which is not a loss.", hint=_NEXT)
    return LossLimit(float(match[1]), _UNITS[match[2].lower()] if match[2] else None)


def check_unit(
    limit: LossLimit | None, tasks: tuple[Task, ...], labelled: Callable[[], bool] = lambda: False
) -> None:
    """Check that one of the measures that may be limited is counted in the unit.

    Args:
        limit: What is checked.
        tasks: The task of the network, and that of unlabelled data.
        labelled: Tells whether the data has labels; called only where the unit is that of unlabelled data alone.

    Raises:
        UsageError: None is.
    """
    if limit is None or limit.unit is None:
        return
    own = [each for each in tasks[0].measures if each.limit is not None]
    limited = [each for task in tasks for each in task.measures if each.limit is not None]
    if all(each.loss_unit != limit.unit for each in own) and labelled():
        limited = own
    if all(each.loss_unit != limit.unit for each in limited):
        known = " or ".join(sorted({each.budget for each in limited}))
        raise UsageError(f"{tasks[0].id} counts losses in {known}, not in {limit.unit}.", hint=_NEXT)


def limit_for(limit: LossLimit, metric: Metric) -> float:
    """Return the most that may be lost of a metric, in its own unit.

    Raises:
        UsageError: The metric is counted in another unit than the limit.
    """
    if not limit.stated:
        return cast(float, metric.limit)
    if limit.unit not in (None, metric.loss_unit):
        raise UsageError(f"What was measured is counted in {metric.budget}, not in {limit.unit}.", hint=_NEXT)
    return limit.most


def loss_and_least(metric: Metric, before: Quality, after: Quality) -> tuple[float, float]:
    """Return the loss between two files, and the least that chance leaves of it with a confidence of 95 %.

    The images are the same for both, so each is compared with itself.
    """
    lost = metric.lost(before.values[metric.key], after.values[metric.key])
    pairs = [
        metric.lost(one.values[metric.key], two.values[metric.key])
        for one, two in zip(before.scores, after.scores, strict=True)
        if metric.key in one.values and metric.key in two.values
    ]
    if len(pairs) < 2:
        return lost, lost
    return lost, lost - Z95 * statistics.stdev(pairs) / math.sqrt(len(pairs))
