"""``zoo plugin new``: write a package for a technique of your own, complete and passing its tests."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.scaffold import write_plugin
from zoo_cli.output import json_option, print_json, print_text


@click.group()
def command() -> None:
    """Create a plugin package of your own."""


@command.command("new")
@click.argument("name", metavar="zoo-NAME")
@click.option("--technique", default="", metavar="ID", help="Id of the technique [NAME].")
@click.option(
    "--into",
    default=".",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write it to [the current one].",
)
@json_option
def new(name: str, technique: str, into: Path, as_json: bool) -> None:
    """Write a package with a technique, its entry point, tests and README.

    The technique works, composes with the others and passes the conformance kit. Continue from there.
    """
    package = write_plugin(name, into, technique)
    if as_json:
        print_json(
            {
                "folder": str(package.folder),
                "distribution": package.distribution,
                "technique": package.technique,
                "files": list(package.files),
            }
        )
        return
    print_text(f"{package.folder} has a working technique '{package.technique}'. Next:", "")
    print_text(f"  cd {package.folder}", "  pip install -e '.[test]'", "  pytest", "")
    print_text(f"Then make it yours: {package.folder / package.files[4]}")
