"""`zoo publish`: put an artifact on the Hub, with its card and its registry entry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.formatting import scaled
from zoo.progress import progress
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout

if TYPE_CHECKING:
    from zoo.publishing.publisher import Published


@click.command(short_help="Publish an artifact on the Hub, with its card and registry entry.")
@click.argument("artifact")
@click.argument("repository", metavar="NAMESPACE/NAME")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision-tag", metavar="TAG", default="", help="Name this revision, such as v1.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be done, and the card; needs neither token nor network."
)
@click.option(
    "--register",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the entry to this registry.toml instead of printing it.",
)
@click.option("--id", "identifier", default="", help="Id of the entry [derived from NAME].")
@click.option("--summary", default="", help="One-line summary for the entry.")
@click.option(
    "--license",
    "license_",
    metavar="ID",
    help="License of the weights, such as apache-2.0 [that of the published card].",
)
@click.option(
    "--base-model",
    metavar="NAMESPACE/NAME",
    help="Model it was made from [where the registry has the starting weights, or that of the published card].",
)
@click.option(
    "--dataset",
    "datasets",
    metavar="NAMESPACE/NAME",
    multiple=True,
    help="Dataset on the Hub it was trained with; repeatable [those of the published card].",
)
@click.option("-m", "--message", default="", help="Title of the commit.")
@json_option
def command(
    artifact: str,
    repository: str,
    private: bool,
    revision_tag: str,
    dry_run: bool,
    register: Path | None,
    identifier: str,
    summary: str,
    license_: str | None,
    base_model: str | None,
    datasets: tuple[str, ...],
    message: str,
    as_json: bool,
) -> None:
    """Publish ARTIFACT, a folder or the id of a checkpoint, as the repository NAMESPACE/NAME.

    One commit holds all of it, and is read back and verified byte by byte before it is tagged and registered.
    If it is interrupted, the same command resumes it. HF_ENDPOINT and HF_TOKEN are honoured.
    """
    from zoo.publishing.destination import PublishRequest
    from zoo.publishing.publisher import publish

    request = PublishRequest(
        artifact=Path(artifact),
        repository=repository,
        identifier=identifier,
        tag=revision_tag,
        private=private,
        message=message,
        summary=summary,
        license=license_,
        base_model=base_model,
        datasets=tuple(filter(None, datasets)) if datasets else None,
        register=register,
        dry_run=dry_run,
    )
    with quiet_stdout(as_json), progress() as reporter:
        done = publish(request, reporter)
        if not done.license:
            reporter.note(
                "The card does not name a license, so others may not use it; name one:  --license apache-2.0"
            )
    if as_json:
        print_json({**vars(done), "dry_run": dry_run, "registered": None if dry_run else register})
    elif dry_run:
        _print_plan(done)
    else:
        _print_done(done, register)


def _print_plan(done: Published) -> None:
    print_text(f"{'Would create' if done.created else 'Would publish to'} {done.url}")
    rows = [("upload", name) for name in done.uploaded] + [("remove", name) for name in done.removed]
    print_table(("WHAT", "FILE"), [*rows, *(("leave", name) for name in done.unchanged)])
    if done.commit:
        print_text(f"Nothing to upload: {done.commit} holds these bytes already.")
    else:
        print_text(f"{len(rows)} changes, {scaled(done.bytes, 'B')}, in one commit. Nothing was written.")
    print_text("", "The card:", "", done.card.rstrip())


def _print_done(done: Published, register: Path | None) -> None:
    what = "Published" if done.uploaded or done.removed else "Nothing to upload: already at"
    tag = f", tag {done.tag}" if done.tag else ""
    print_text(f"{what} {done.url} at {done.commit}{tag}")
    print_text("Every byte was read back and verified.")
    if register is None:
        print_text("The entry for registry.toml:", "", done.entry.rstrip())
    else:
        print_text(f"Registered as {done.identifier} in {register}")
    print_text("", f"Try it:  zoo pull {done.repository}@{done.commit}")
