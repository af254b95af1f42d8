"""Energy, where the machine has a sensor: RAPL counters of x86, power rails of boards."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

_RAPL = "sys/class/powercap/intel-rapl:[0-9]*"
_SAMPLE_SECONDS = 0.02


class EnergyMeter:
    """Counts joules from its creation until :meth:`close`.

    Args:
        patterns: Of a profile's power sensors: a file in mW, or "file of mV * file of mA"; all that match are
            added.

    Attributes:
        sensor: What is read, or why nothing is.
    """

    def __init__(self, patterns: Sequence[str] = (), root: Path = Path("/")) -> None:
        self._root = root
        # Packages alone: intel-rapl:0:0 is a part of intel-rapl:0.
        packages = [path for path in sorted(root.glob(_RAPL)) if path.name.count(":") == 1]
        counters = {path: _number(path / "energy_uj") for path in packages}
        self._counters = {path: start for path, start in counters.items() if start is not None}
        self._rails = [] if self._counters else [rail for each in patterns for rail in self._rails_of(each)]
        self._sampled = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True) if self._rails else None
        if self._thread:
            self._thread.start()
        if self._counters:
            self.sensor = "RAPL, " + ", ".join(path.name for path in self._counters)
        elif self._rails:
            self.sensor = "power rails, " + ", ".join(str(rail[0]) for rail in self._rails)
        else:
            self.sensor = "no RAPL counter that may be read and no power rail"

    def joules(self) -> float | None:
        """Return the energy since the start; None without a sensor."""
        if self._counters:
            return sum(self._since(path, start) for path, start in self._counters.items())
        return self._sampled if self._thread else None

    def close(self) -> None:
        """Stop sampling power rails."""
        if self._thread:
            self._stopping.set()
            self._thread.join()

    def _since(self, path: Path, start: float) -> float:
        """Joules on one counter, which restarts when it is full."""
        now = _number(path / "energy_uj")
        if now is None:
            return 0.0
        if now < start:
            now += _number(path / "max_energy_range_uj") or 0.0
        return (now - start) / 1e6

    def _rails_of(self, pattern: str) -> list[tuple[Path, ...]]:
        parts = [sorted(self._root.glob(part.strip().lstrip("/"))) for part in pattern.split(" * ")]
        return list(zip(*parts, strict=False)) if all(parts) else []

    def _sample(self) -> None:
        before = time.monotonic()
        while not self._stopping.wait(_SAMPLE_SECONDS):
            now = time.monotonic()
            self._sampled += sum(map(_watts, self._rails)) * (now - before)
            before = now


def _watts(rail: tuple[Path, ...]) -> float:
    """Return watts: one file states milliwatts; two state millivolts and milliamperes."""
    values = [_number(path) or 0.0 for path in rail]
    return values[0] / 1e3 if len(values) == 1 else values[0] * values[1] / 1e6


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
