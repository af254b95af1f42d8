"""Latency of several sessions, measured in turns so that a noisy machine is unfair to none."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import Session


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run: the median and the quartiles around it."""

    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for metrics.json and `--json`."""
        return {"median_ms": round(self.median, 3), "quartiles_ms": [round(self.low, 3), round(self.high, 3)]}


def measure(
    sessions: Mapping[str, Session], inputs: npt.NDArray[np.float32], *, rounds: int = 9, warm_up: int = 2
) -> dict[str, Latency]:
    """Time each session on the same input, interleaved, after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(warm_up + rounds):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(inputs)
            if turn >= warm_up:
                times[name].append((time.perf_counter() - started) * 1000)
    return {name: _summary(values) for name, values in times.items()}


def _summary(values: list[float]) -> Latency:
    low, median, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return Latency(median, low, high)
