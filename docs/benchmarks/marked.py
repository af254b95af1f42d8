"""Tables that a script puts into a page, between two comments that name them: <!-- NAME: begin --> and end."""

from __future__ import annotations

from pathlib import Path

from zoo.storage.atomic import write_bytes_atomic


def with_table(page: Path, name: str, table: str) -> str:
    """The text of a page with `table` between the comments of `name`; ends the program if it lacks them."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, begun, rest = page.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise SystemExit(f"{page} lacks the comments {begin.strip()} and {end}.")
    closed = table if table.endswith("\n") or not table else f"{table}\n"
    return f"{before}{begin}{closed}{end}{after}"


def put_table(page: Path, name: str, table: str) -> None:
    """Write the page with the table."""
    write_bytes_atomic(page, with_table(page, name, table).encode())
