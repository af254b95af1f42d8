"""``zoo plugins``: list what is installed, from which distribution, and whether it works."""

from __future__ import annotations

import click

from zoo.errors import PluginError
from zoo.plugins.plugin_check import FAULTS, PluginState, PluginStatus, check_plugins
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout


@click.command()
@click.option("--check", is_flag=True, help="Load each plugin; exit with 3 if one is faulty.")
@json_option
def command(check: bool, as_json: bool) -> None:
    """List installed plugins, or check that they load.

    Without --check no plugin is imported, and plugins whose faults only an import would reveal are listed as
    "not checked". ZOO_PLUGINS='' switches third-party plugins off.
    """
    with quiet_stdout(as_json):
        standings = check_plugins(load=check)
    if as_json:
        print_json({"plugins": [as_record(standing) for standing in standings]})
    else:
        columns = ("ID", "KIND", "DISTRIBUTION", "VERSION", "STATE", "REASON")
        print_table(columns, (tuple(as_record(each)[key.lower()] for key in columns) for each in standings))
        if any(standing.state is PluginState.UNCHECKED for standing in standings):
            print_text("", "Load them all with:  zoo plugins --check")
    if check and any(standing.state in FAULTS for standing in standings):
        raise SystemExit(PluginError.exit_code)


def as_record(standing: PluginStatus) -> dict[str, object]:
    """Return a plugin's status as JSON and tables show it."""
    plugin = standing.plugin
    return {
        "id": plugin.id,
        "kind": plugin.kind,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "builtin": plugin.builtin,
        "target": plugin.target,
        "state": standing.state.value,
        "reason": standing.reason,
    }
