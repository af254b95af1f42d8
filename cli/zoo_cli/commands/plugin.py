"""``zoo plugin new``: a package for a technique of one's own, complete and passing its tests."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.scaffold import write_plugin
from zoo_cli.output import json_option, print_json, print_text


@click.group()
def command() -> None:
    """Begin a plugin package of your own."""


@command.command("new")
@click.argument("name", metavar="zoo-NAME")
@click.option("--technique", default="", metavar="ID", help="Id of the technique; NAME if none is given.")
@click.option(
    "--into",
    default=".",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to make it in; the current one by default.",
)
@json_option
def new(name: str, technique: str, into: Path, as_json: bool) -> None:
    """Write a package with a technique, its entry point, tests and README.

    The technique works, composes with the others and passes the conformance kit; make it your own from there.
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
    print_text(f"{package.folder} has a technique '{package.technique}' that works. Next:", "")
    print_text(f"  cd {package.folder}", "  pip install -e '.[test]'", "  pytest", "")
    print_text(f"Then make it yours: {package.folder / package.files[4]}")
