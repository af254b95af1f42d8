"""`zoo train`: train an architecture as it is, for recipes to start from."""

from __future__ import annotations

from typing import Any

import click

from zoo_cli.commands.apply import run, training_options


@click.command(short_help="Train an architecture as it is.")
@click.argument("architecture")
@training_options
@click.pass_context
def command(context: click.Context, /, architecture: str, as_json: bool, **_: Any) -> None:
    """Train ARCHITECTURE (such as unet) without compressing it, from random weights unless --weights is given.

    If it is interrupted or killed, the same command resumes it.
    """
    run(None, architecture, context, as_json)
