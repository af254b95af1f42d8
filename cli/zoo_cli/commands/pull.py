"""`zoo pull`: fetch a published checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from zoo_cli.output import json_option, print_json, print_text, quiet_stdout
from zoo_cli.progress import progress


@click.command(short_help="Fetch a published checkpoint.")
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for it [the cache, where zoo run finds it]."
)
@json_option
def command(name: str, out: Path | None, as_json: bool) -> None:
    """Fetch the checkpoint NAME: exactly the bytes that the registry pins, or nothing."""
    from zoo.pull import pull

    with quiet_stdout(as_json), progress() as reporter:
        pulled = pull(name, out, report=reporter)
    if as_json:
        print_json(
            {
                "checkpoint": pulled.checkpoint.id,
                "path": pulled.path,
                "fresh": pulled.fresh,
                "bytes": pulled.checkpoint.size,
                "files": pulled.checkpoint.files,
            }
        )
        return
    done = "Pulled" if pulled.fresh else "Already there:"
    print_text(f"{done} {name} ({pulled.checkpoint.size / 1e6:.1f} MB) in {pulled.path}")
    print_text(f"Try it:  zoo run {name if out is None else out} shot.ARW -o pictures")
