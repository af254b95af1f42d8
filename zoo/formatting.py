"""Numbers and tables as text that people read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def integer(value: float | None) -> str:
    """Return ``1,513,812``."""
    return "" if value is None else f"{value:,.0f}"


def scaled(value: float | None, unit: str = "") -> str:
    """Return four digits with a decimal prefix: ``1.999 G``, ``6.055 MB`` for the unit "B"."""
    if value is None:
        return ""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}".rstrip()


def seconds(value: float | None) -> str:
    """Return a duration: ``41.2 ms``, ``3.21 s``, ``2:35``, ``1:02:35``."""
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """Return text without what a terminal would obey: control characters but line feeds are replaced.

    Names from files and plugins go through it wherever they are printed.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def table_lines(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()
) -> list[str]:
    """Return rows below column heads, padded with spaces; the columns named in `right` are aligned to the right."""
    cells = list(rows)
    to_right = set(right)
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if column in to_right else cell.ljust(width)
            for column, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in [list(columns), *cells]
    ]
