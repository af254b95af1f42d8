"""``zoo techniques``: list the techniques that work here, and how they combine."""

from __future__ import annotations

import click

from zoo.contracts import Technique
from zoo.plugins import load_plugin, resolve_plugin
from zoo.plugins.discovery import Plugin
from zoo.plugins.plugin_check import PluginState, check_plugins
from zoo.recipes.legality import Relation, relation
from zoo_cli.output import json_option, print_json, print_note, print_table, print_text, quiet_stdout


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--matrix", is_flag=True, help="Show for each pair whether it combines, and in what order.")
@json_option
def command(ids: tuple[str, ...], matrix: bool, as_json: bool) -> None:
    """List techniques and how they combine; with IDs, only these, in that order.

    In the matrix the row comes before the column in the recipe: "commutes" means that both orders are legal,
    "ordered" that only this one is, "forbidden" that this one is not.
    """
    with quiet_stdout(as_json):
        loaded, broken = _chosen(ids) if ids else _load()
    records = [_record(name, plugin, cls) for name, (plugin, cls) in loaded.items()]
    relations = {
        (first, second): relation(loaded[first][1], loaded[second][1])
        for first in loaded
        for second in loaded
    }
    if as_json:
        pairs = [{"first": a, "second": b, "relation": value} for (a, b), value in relations.items()]
        print_json({"techniques": records, **({"matrix": pairs} if matrix else {})})
    elif matrix:
        _print_matrix(list(loaded), relations)
    else:
        columns = ("ID", "PHASE", "SUMMARY")
        print_table(columns, (tuple(record[column.lower()] for column in columns) for record in records))
    for message in broken:
        print_note(f"Left out: {message}")


def _load() -> tuple[dict[str, tuple[Plugin, type[Technique]]], list[str]]:
    """Return the techniques that load, by their name in recipes, and why the others do not."""
    loaded: dict[str, tuple[Plugin, type[Technique]]] = {}
    broken: list[str] = []
    for standing in check_plugins(load=True, kind="techniques"):
        plugin = standing.plugin
        if standing.state in (PluginState.OK, PluginState.DUPLICATE):
            name = plugin.full_id if standing.state is PluginState.DUPLICATE else plugin.id
            loaded[name] = plugin, load_plugin(plugin)
        elif standing.state is not PluginState.OFF:
            broken.append(f"{plugin.label} {standing.reason}")
    return loaded, broken


def _chosen(ids: tuple[str, ...]) -> tuple[dict[str, tuple[Plugin, type[Technique]]], list[str]]:
    plugins = {name: resolve_plugin("techniques", name) for name in ids}
    return {name: (plugin, load_plugin(plugin)) for name, plugin in plugins.items()}, []


def _record(name: str, plugin: Plugin, cls: type[Technique]) -> dict[str, object]:
    return {
        "id": name,
        "phase": cls.phase.value,
        "summary": cls.summary,
        "paper": cls.paper,
        "before": cls.before,
        "after": cls.after,
        "conflicts": cls.conflicts,
        "repeatable": cls.repeatable,
        "distribution": plugin.distribution,
        "version": plugin.version,
    }


def _print_matrix(names: list[str], relations: dict[tuple[str, str], Relation]) -> None:
    rows = ((first, *(relations[first, second].value for second in names)) for first in names)
    print_table(("ROW BEFORE COLUMN", *names), rows)
    print_text(
        "", "commutes: both orders are legal; ordered: only row+column is; forbidden: row+column is not"
    )
