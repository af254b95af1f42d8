"""`zoo pull`: fetch a published checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.progress import progress
from zoo_cli.output import json_option, print_json, print_text, quiet_stdout, registry_option

if TYPE_CHECKING:
    from zoo.download import Pulled


@click.command(short_help="Fetch a published checkpoint.")
@click.argument("name")
@click.option("--device", metavar="ID", help="Fetch only what running it on this device needs.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to put it in [the cache, where zoo run finds it]."
)
@registry_option
@json_option
def command(name: str, device: str | None, out: Path | None, registry: str | None, as_json: bool) -> None:
    """Fetch the checkpoint NAME: exactly the bytes that the registry pins, or nothing.

    NAME is an id of `zoo list checkpoints`, optionally with the required revision (ID@TAG, ID@COMMIT), or
    NAMESPACE/NAME@COMMIT for anything on the Hub that no registry lists.
    """
    from zoo.download import pull

    with quiet_stdout(as_json), progress() as reporter:
        pulled = pull(name, out, device=device or None, registry=registry, reporter=reporter)
    if as_json:
        print_json(_record(pulled))
        return
    done = "Pulled" if pulled.fresh else "Already there:"
    unpinned = "" if pulled.checkpoint.pinned else ", unpinned"
    print_text(f"{done} {pulled.checkpoint.id} ({pulled.size / 1e6:.1f} MB{unpinned}) in {pulled.path}")
    print_text(f"Try it:  zoo run {pulled.checkpoint.id if out is None else out} shot.ARW -o pictures")


def _record(pulled: Pulled) -> dict[str, object]:
    checkpoint = pulled.checkpoint
    return {
        "checkpoint": checkpoint.id,
        "path": pulled.path,
        "fresh": pulled.fresh,
        "pinned": checkpoint.pinned,
        "registry": checkpoint.registry or None,
        "tag": checkpoint.tag or None,
        "digest": checkpoint.digest,
        "bytes": pulled.size,
        "files": {name: checkpoint.files[name] for name in sorted(pulled.files)},
        "not_fetched": sorted(checkpoint.files.keys() - pulled.files),
    }
