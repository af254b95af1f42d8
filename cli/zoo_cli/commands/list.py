"""``zoo list``: what there is, by kind."""

from __future__ import annotations

import click

from zoo.discovery import GROUPS
from zoo.survey import survey
from zoo_cli.commands.plugins import as_record
from zoo_cli.output import json_option, print_json, print_table, print_text, scaled

KINDS = (*GROUPS, "checkpoints")


@click.command()
@click.argument("kind", type=click.Choice(KINDS), required=False)
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """List architectures, techniques, engines, datasets, devices and checkpoints.

    No plugin is imported. KIND limits the list to one of them.
    """
    listed = {each: _rows(each) for each in ((kind,) if kind else KINDS)}
    if as_json:
        print_json(listed)
        return
    for number, (each, rows) in enumerate(listed.items()):
        if number:
            print_text("")
        columns: tuple[str, ...] = ("ID", "ARCHITECTURE", "RECIPE", "SIZE", "SUMMARY")
        if each != "checkpoints":
            columns = ("ID", "DISTRIBUTION", "VERSION", "STATE", "REASON")[: 5 if _any_reason(rows) else 3]
        cells = (tuple(_cell(row, column.lower()) for column in columns) for row in rows)
        print_table(columns, cells, title=each.capitalize(), right=("SIZE",))


def _rows(kind: str) -> list[dict[str, object]]:
    if kind != "checkpoints":
        return [as_record(standing) for standing in survey() if standing.plugin.kind == kind]
    from zoo.catalogue import checkpoints

    return [
        {
            "id": each.id,
            "architecture": each.architecture,
            "recipe": each.recipe,
            "size": each.size,
            "summary": each.summary,
            "sources": each.sources,
        }
        for each in checkpoints().values()
    ]


def _any_reason(rows: list[dict[str, object]]) -> bool:
    return any(row["reason"] for row in rows)


def _cell(row: dict[str, object], column: str) -> object:
    value = row[column]
    return scaled(value, "B") if column == "size" and isinstance(value, int) else value
