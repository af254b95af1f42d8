"""`zoo train`: train an architecture as it is, for recipes to start from."""

from __future__ import annotations

from typing import Any

import click

from zoo_cli.commands.apply import make_request, require_compress, run, training_options


@click.command(short_help="Train an architecture as it is.")
@click.argument("architecture")
@training_options
def command(architecture: str, as_json: bool, **options: Any) -> None:
    """Train ARCHITECTURE (such as unet) without compressing it, from random weights unless --weights is given.

    If it is interrupted or killed, the same command resumes it.
    """
    require_compress()
    if options["weights"] == "auto":
        options["weights"] = "none"
    run(make_request(None, architecture, "trained", options), as_json)
