"""What `zoo explain --effect` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_cli.output import print_table, print_text

if TYPE_CHECKING:
    from zoo.explanation.effect_report import EffectExplanation

#: How many layers are shown; JSON and the page hold all.
_MOST_LAYERS = 20


def show_effect(found: EffectExplanation) -> None:
    """Print the ranking of the layers, the largest quantizers, the two ends, and what to do."""
    from zoo.explanation.effect_page import effect_table, measured_on, single_table, summary

    columns, rows = effect_table(found)
    print_table(columns, rows[:_MOST_LAYERS], right=columns[1:])
    if len(rows) > _MOST_LAYERS:
        print_text(f"... and {len(rows) - _MOST_LAYERS} layers more; --json and --html have all.")
    columns, rows = single_table(found)
    print_table(columns, rows, right=columns[2:])
    print_text(*summary(found), *found.advice, measured_on(found))
