"""What an artifact takes on devices, as `zoo bench --record` measured it: rows in metrics.json and registry.toml."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from zoo.contracts.limits import PLUGIN_ID, Limits
from zoo.errors import IntegrityError
from zoo.schema import StrictTable, read

_POSITIVE = Limits(0, 1e12)


@dataclass(frozen=True)
class Performance:
    """What a run of the network takes on a device with an engine.

    Attributes:
        version: Of the engine.
        input: Its shape, as in "1x3x224x224".
        threads: Of the engine on the processor.
        machine: What was measured on, as its system names it.
        median_ms: Of a run, in milliseconds.
        p95_ms: The time that 95 % of the runs keep to, in milliseconds.
        peak_mb: The most memory that a process held which loaded the network and ran it once, in MiB.
        joules: Energy of a run; None without a sensor.
    """

    version: Annotated[str, Limits(most=100)]
    input: Annotated[str, Limits(most=100, pattern=r"\d+(x\d+)*")]
    threads: Annotated[int, Limits(1, 4096)]
    machine: Annotated[str, Limits(most=200)]
    median_ms: Annotated[float, _POSITIVE]
    p95_ms: Annotated[float, _POSITIVE]
    peak_mb: Annotated[float, _POSITIVE]
    joules: Annotated[float | None, _POSITIVE] = None

    def to_json(self) -> dict[str, Any]:
        """Return a row for metrics.json; what was not measured is left out."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}


#: Rows by "DEVICE ENGINE", such as "jetson-nano tensorrt".
PerformanceRows = Annotated[
    Mapping[Annotated[str, Limits(most=70, pattern=f"{PLUGIN_ID} {PLUGIN_ID}")], Performance],
    Limits(most=100),
]


@dataclass(frozen=True)
class _Rows:
    performance: PerformanceRows


def performance_of(metrics: Mapping[str, Any]) -> Mapping[str, Performance]:
    """Return the rows of a parsed metrics.json.

    Raises:
        IntegrityError: They are malformed.
    """
    table = StrictTable({"performance": metrics.get("performance", {})}, "metrics.json", error=IntegrityError)
    return read(_Rows, table).performance


def fastest_on(rows: Mapping[str, Performance], device: str) -> tuple[str, Performance] | None:
    """Return the engine with the least median on a device, and its row; None if nothing was measured there."""
    found = {key.partition(" ")[2]: row for key, row in rows.items() if key.partition(" ")[0] == device}
    return min(found.items(), key=lambda each: each[1].median_ms, default=None)
