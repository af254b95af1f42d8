"""``zoo doctor``: check what this machine has, and what is missing."""

from __future__ import annotations

import click

from zoo.doctor import Severity, examine
from zoo.progress import progress
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout


@click.command()
@click.argument("artifact", required=False)
@click.option(
    "--megapixels",
    default=24.0,
    show_default=True,
    type=click.FloatRange(0.01, 1000),
    help="Size of a frame that ARTIFACT is to run on.",
)
@click.option(
    "--device",
    default="",
    metavar="ID",
    help="Profile to compare the machine with [that of the board found].",
)
@json_option
def command(artifact: str | None, megapixels: float, device: str, as_json: bool) -> None:
    """Check board, memory, swap, power mode, packages and engines, and suggest remedies.

    Given an ARTIFACT, a folder or the id of a checkpoint, also check whether running it fits in memory.
    Exits with 1 if something will not work.
    """
    from zoo.checkpoints.resolver import locate_artifact

    with quiet_stdout(as_json), progress(quiet=True) as reporter:
        found = None if artifact is None else locate_artifact(artifact, reporter=reporter)
        findings = examine(device, artifact=found, megapixels=megapixels)
    if as_json:
        print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        print_table(
            ("", "WHAT", "FOUND"), ((each.state.value, each.subject, each.found) for each in findings)
        )
        remedies = [each for each in findings if each.remedy and each.state is not Severity.OK]
        if remedies:
            print_text("", *(f"{each.subject}: {each.remedy}" for each in remedies))
    if any(finding.state is Severity.PROBLEM for finding in findings):
        raise SystemExit(1)
