"""What commands print on standard output: tables for people, one JSON document for programs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import click

from zoo.formatting import printable, table_lines

_LONG_TABLE = 60

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Give a command the flag ``--json``, passed on as `as_json`."""
    flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
    return flag(command)


def registry_option(command: Command) -> Command:
    """Give a command the option ``--registry``."""
    flag = click.option(
        "--registry",
        metavar="FILE|URL",
        help="Additional registry of checkpoints: a file or an https address.",
    )
    return flag(command)


@contextlib.contextmanager
def quiet_stdout(as_json: bool) -> Iterator[None]:
    """Redirect everything that plugins and libraries print to standard error, if the output is JSON.

    Args:
        as_json: Whether the command writes JSON to standard output.
    """
    from zoo.plugins.stdio import stdout_to_stderr

    with stdout_to_stderr() if as_json else contextlib.nullcontext():
        yield


def print_json(value: Any) -> None:
    """Print `value` as one JSON document; dataclasses, enums, paths and numpy scalars are converted."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")
    context = click.get_current_context(silent=True)
    if context is not None and context.obj is not None:
        context.obj["printed"] = True  # an error after this must not add a second document


def print_text(*lines: str) -> None:
    """Print lines of text."""
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))


def print_note(line: str) -> None:
    """Print a line that is no part of the result, to standard error."""
    click.echo(printable(line), err=True)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", right: Iterable[str] = ()
) -> None:
    """Print rows below column heads; the columns named in `right` are aligned to the right.

    On a terminal rich draws it; elsewhere the columns are padded with spaces, and rich is not imported. So
    are those of long tables, for which rich takes noticeable time.
    """
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    to_right = set(right)
    if sys.stdout.isatty() and len(cells) <= _LONG_TABLE:
        _print_rich(columns, cells, title, to_right)
        return
    print_text(*([title] if title else []), *table_lines(columns, cells, right=to_right))


# --------------------------------------------------------------------------------------------------- details


def _print_rich(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str, right: set[str]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=SIMPLE, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as Text, so that [brackets] are no markup
    Console().print(table)


def _plain(value: Any) -> Any:
    """`value` in the types of JSON; numbers that JSON lacks (infinity, not-a-number) become null."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value))
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        return _plain(value.item())
    raise TypeError(f"{type(value).__name__} has no JSON form")
