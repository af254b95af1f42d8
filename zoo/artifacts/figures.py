"""The measured numbers in an artifact's metrics.json, and how they are shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from zoo.contracts.limits import Limits
from zoo.errors import IntegrityError
from zoo.schema import StrictTable, read

_MOST_FIGURES = 100
_VALUE = Limits(-1e15, 1e15)


@dataclass(frozen=True)
class Figure:
    """One measured number, before and after the recipe.

    Attributes:
        key: Identifier such as "psnr_db".
        name: The quantity in words, as tables show it.
        unit: "" for plain counts.
        before: The value of the network compared with; None if there is nothing to compare with.
        after: The value of this artifact.
        how: How it was measured, with the command where there is one.
    """

    key: Annotated[str, Limits(most=150, pattern="[a-z0-9][a-z0-9_]*")]
    name: Annotated[str, Limits(most=100)]
    unit: Annotated[str, Limits(most=20)]
    before: Annotated[float | None, _VALUE]
    after: Annotated[float, _VALUE]
    how: str

    def to_json(self) -> dict[str, Any]:
        """Return a row for the `figures` of metrics.json."""
        return dataclasses.asdict(self)


def figures_of(metrics: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of a parsed metrics.json.

    Raises:
        IntegrityError: The figures are malformed.
    """
    table = StrictTable(dict(metrics), "metrics.json", error=IntegrityError)
    return [read(Figure, row) for row in table.list_of_tables("figures", most=_MOST_FIGURES)]


def format_number(value: float | None, unit: str = "") -> str:
    """Format a number for readers: 1,513,812; 1.999 G; 28.88 dB; and a dash for None."""
    if value is None:
        return "-"
    if unit == "" and value == int(value):
        return f"{int(value):,}"
    shown = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{shown} {unit}".rstrip()
