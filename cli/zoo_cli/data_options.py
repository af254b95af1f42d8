"""The options that name data, which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def data_options(command: Any) -> Any:
    """Give a command the options ``--data``, ``--skip-bad`` and ``--photos``."""
    options = [
        click.option(
            "--data", default="", help="Dataset with options, as in 'folder(root=DIR)' [by the task]."
        ),
        click.option(
            "--skip-bad",
            is_flag=True,
            help="Leave out files of --data that cannot be used, instead of refusing them.",
        ),
        click.option(
            "--photos",
            multiple=True,
            type=click.Path(path_type=Path),
            help="Folder of photographs to add; repeatable.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def resolve_skip_bad(options: dict[str, Any]) -> dict[str, Any]:
    """Return options in which ``--skip-bad`` is a part of `data`.

    Raises:
        UsageError: The data has no such option.
    """
    if not options.get("skip_bad"):
        return {name: value for name, value in options.items() if name != "skip_bad"}
    from zoo.data.choose import leaving_out_bad

    data = leaving_out_bad(options.get("data", ""))
    return {**{name: value for name, value in options.items() if name != "skip_bad"}, "data": data}
