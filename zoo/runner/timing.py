"""Latency of several sessions, measured interleaved so that a noisy machine affects all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.contracts import FloatArray, Session

ROUNDS, WARM_UP = 9, 2
#: Long enough for the threads of the engine that ran before to stop waiting for more work.
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run: the median, the quartiles around it, and all of them in the order measured."""

    median: float
    low: float
    high: float
    times: tuple[float, ...] = ()

    def percentile(self, share: float) -> float:
        """Return the time that `share` percent of the runs did not exceed, interpolated."""
        ordered = sorted(self.times)
        at = (len(ordered) - 1) * share / 100
        below = int(at)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (at - below)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for metrics.json and `--json`."""
        return {"median_ms": round(self.median, 3), "quartiles_ms": [round(self.low, 3), round(self.high, 3)]}


def measure_latency(
    sessions: Mapping[str, Session],
    inputs: FloatArray | Mapping[str, FloatArray],
    *,
    rounds: int = ROUNDS,
    warm_up: int = WARM_UP,
    after_round: Callable[[], None] = lambda: None,
) -> dict[str, Latency]:
    """Time the sessions, interleaved, after a warm-up.

    Args:
        sessions: By name.
        inputs: (N, C, H, W); one for all, or one for each by name.
        rounds: How often each is timed.
        warm_up: How often each runs before.
        after_round: Called when each session has run once more.
    """
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(warm_up + rounds):
        for name, session in sessions.items():
            given = inputs[name] if isinstance(inputs, Mapping) else inputs
            time.sleep(_PAUSE_SECONDS)
            started = time.perf_counter()
            session.run(given)
            if turn >= warm_up:
                times[name].append((time.perf_counter() - started) * 1000)
        after_round()
    return {name: _summary(values) for name, values in times.items()}


def latency_ratio(slow: Latency, fast: Latency) -> tuple[float, float, float]:
    """Return the median of the ratios of `slow` to `fast` in single rounds, and their quartiles."""
    pairs = [a / b for a, b in zip(slow.times, fast.times, strict=True)]
    around = _summary(pairs)
    return around.median, around.low, around.high


def _summary(values: list[float]) -> Latency:
    low, median, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return Latency(median, low, high, tuple(values))
