"""``zoo plugin new``: write a package for a plugin of your own, complete and passing its tests."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.scaffold import KINDS, write_plugin
from zoo_cli.output import json_option, print_json, print_text


@click.group()
def command() -> None:
    """Create a plugin package of your own."""


@command.command("new")
@click.argument("name", metavar="zoo-NAME")
@click.option(
    "--kind", default="technique", type=click.Choice(list(KINDS)), help="Kind of plugin.", show_default=True
)
@click.option("--id", "--technique", "plugin_id", default="", metavar="ID", help="Id of the plugin [NAME].")
@click.option(
    "--into",
    default=".",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write it to [the current one].",
)
@json_option
def new(name: str, kind: str, plugin_id: str, into: Path, as_json: bool) -> None:
    """Write a package with a plugin, its entry point, tests and README.

    The plugin works and passes the conformance kit of its kind. Continue from there.
    """
    package = write_plugin(name, into, plugin_id, kind)
    if as_json:
        print_json(
            {
                "folder": str(package.folder),
                "distribution": package.distribution,
                "kind": package.kind,
                package.kind: package.id,
                "files": list(package.files),
            }
        )
        return
    print_text(f"{package.folder} has a working {package.kind} '{package.id}'. Next:", "")
    print_text(f"  cd {package.folder}", "  pip install -e '.[test]'", "  pytest", "")
    print_text(f"Then make it yours: {package.folder / package.source}")
