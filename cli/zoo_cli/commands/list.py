"""``zoo list``: list plugins and checkpoints by kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from zoo.artifacts.metadata import COSTS
from zoo.artifacts.performance import fastest_on
from zoo.errors import UsageError, ZooError
from zoo.formatting import scaled
from zoo.plugins.discovery import GROUPS, summary_of
from zoo.plugins.loader import load_plugin
from zoo.plugins.plugin_check import PluginStatus, check_plugins
from zoo.tasks.built_in_metrics import METRICS
from zoo_cli.commands.plugins import as_record
from zoo_cli.output import json_option, print_json, print_table, print_text, registry_option

if TYPE_CHECKING:
    from zoo.registry import Checkpoint

KINDS = (*GROUPS, "checkpoints")
#: The figures for the speed of a checkpoint; the first that it states is shown.
SPEED = {"latency_ms": "{:.3g} ms"}
Row = dict[str, object]


@click.command()
@click.argument("kind", type=click.Choice(KINDS), required=False)
@click.option(
    "--device", metavar="ID", help="Only checkpoints that were checked on this device, the fastest first."
)
@click.option("--max-mb", type=click.FloatRange(0), help="Only checkpoints of at most this many megabytes.")
@click.option("--arch", metavar="ID", help="Only checkpoints of this architecture.")
@registry_option
@json_option
def command(
    kind: str | None,
    device: str | None,
    max_mb: float | None,
    arch: str | None,
    registry: str | None,
    as_json: bool,
) -> None:
    """List architectures, techniques, tasks, engines, datasets, devices and checkpoints.

    No plugin of a third party is imported: the summary of its distribution stands for it. KIND limits the list to one
    kind.
    """
    if kind != "checkpoints" and (device, max_mb, arch, registry) != (None,) * 4:
        raise UsageError(
            "--device, --max-mb, --arch and --registry apply only to checkpoints.",
            hint="Type:  zoo list checkpoints ...",
        )
    kinds = (kind,) if kind else KINDS
    found = _chosen(registry, device, max_mb, arch) if "checkpoints" in kinds else ()
    rows = {
        each: [
            {**as_record(standing), "summary": _summary(standing)}
            for standing in check_plugins()
            if standing.plugin.kind == each
        ]
        for each in kinds
        if each != "checkpoints"
    }
    if as_json:
        records = [_record(entry) for entry in found]
        print_json({**rows, **({"checkpoints": records} if "checkpoints" in kinds else {})})
        return
    for number, each in enumerate(kinds):
        if number:
            print_text("")
        if each == "checkpoints":
            _print_checkpoints(found, device)
        else:
            _print_plugins(each, rows[each])


def _summary(standing: PluginStatus) -> str:
    """Return one line about a plugin: its own if it is built in, else that of its distribution."""
    plugin = standing.plugin
    if not plugin.builtin:
        return summary_of(plugin.distribution)
    try:
        return str(load_plugin(plugin).summary)
    except ZooError:
        return ""


def _chosen(
    registry: str | None, device: str | None, max_mb: float | None, arch: str | None
) -> Sequence[Checkpoint]:
    from zoo.download.named_registry import load_registries

    found = [
        each
        for each in load_registries(registry).values()
        if (device is None or device in each.devices or fastest_on(each.performance, device))
        and (max_mb is None or each.size <= max_mb * 1e6)
        and (arch is None or arch in (each.architecture, each.architecture.partition(":")[0]))
    ]
    return found if device is None else sorted(found, key=lambda each: _median_on(each, device))


def _median_on(entry: Checkpoint, device: str) -> float:
    """The milliseconds of a run on a device; those that were not measured come last."""
    measured = fastest_on(entry.performance, device)
    return math.inf if measured is None else measured[1].median_ms


def _record(entry: Checkpoint) -> Row:
    return {
        "id": entry.id,
        "architecture": entry.architecture,
        "recipe": entry.recipe,
        "size": entry.size,
        "figures": entry.figures,
        "devices": entry.devices,
        "performance": {key: row.to_json() for key, row in entry.performance.items()},
        "summary": entry.summary,
        "sources": entry.sources,
        "registry": entry.registry,
    }


def _print_checkpoints(found: Sequence[Checkpoint], device: str | None) -> None:
    columns = ("ID", "ARCHITECTURE", "SIZE", "QUALITY", "SPEED", "DEVICES", "SUMMARY")
    cells = (
        (
            entry.id,
            entry.architecture,
            scaled(entry.size, "B"),
            _quality(entry),
            _speed(entry, device),
            ", ".join(dict.fromkeys([*entry.devices, *(key.partition(" ")[0] for key in entry.performance)])),
            entry.summary,
        )
        for entry in found
    )
    print_table(columns, cells, title="Checkpoints", right=("SIZE", "SPEED"))


def _print_plugins(kind: str, rows: Sequence[Row]) -> None:
    any_reason = any(row["reason"] for row in rows)
    columns = ("ID", "DISTRIBUTION", "VERSION", *(("STATE", "REASON") if any_reason else ()), "SUMMARY")
    print_table(
        columns, ([row[column.lower()] for column in columns] for row in rows), title=kind.capitalize()
    )


def _speed(entry: Checkpoint, device: str | None) -> str:
    """Return what a run takes on a device and with which engine; where it was made, if nothing was recorded."""
    measured = None if device is None else fastest_on(entry.performance, device)
    if measured is None:
        return _figure(entry, SPEED)
    return f"{measured[1].median_ms:.3g} ms ({measured[0]})"


def _figure(entry: Checkpoint, forms: Mapping[str, str]) -> str:
    """Return the first figure in `forms` that the entry states, formatted."""
    for key, form in forms.items():
        value = entry.figures.get(key)
        if isinstance(value, (int, float)):
            return form.format(value)
    return ""


def _quality(entry: Checkpoint) -> str:
    """Return the first figure that says what a checkpoint is worth, as its task shows it."""
    for key, value in entry.figures.items():
        if key in COSTS or not isinstance(value, (int, float)):
            continue
        metric = METRICS.get(key)
        if metric is None:
            return f"{key} {value:.4g}"
        shown = metric.show(value)
        return shown if metric.unit else f"{metric.name} {shown}"
    return ""
