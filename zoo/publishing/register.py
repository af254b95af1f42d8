"""Putting an entry into a registry.toml without touching anything else of it: comments, order, blank lines.

The file is edited as text, then read again: unless it now says exactly what it said before plus the new entry, it is
left alone and the entry shown for the user to put in by hand.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo.errors import IntegrityError, UsageError
from zoo.registry.installed import registry_file
from zoo.registry.registry_toml import FORMAT, LARGEST, Checkpoint, parse_registry
from zoo.storage.atomic import read_bytes, write_bytes_atomic, writing

_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+|\"[^\"]*\")\s*=")
_TRAILING_COMMENT = re.compile(r"(?:\"(?:\\.|[^\"\\])*\"|'[^']*'|[^\"'#])*?(\s*#.*)")


def registered(path: Path) -> Mapping[str, Checkpoint]:
    """What a registry file lists so far; nothing if there is no such file. Raises IntegrityError, InputError."""
    return parse_registry(_content(path.resolve()), str(path))


def check_registry(path: Path, identifier: str) -> None:
    """Raise what :func:`register` would raise; to be called before anything is published.

    Raises UsageError if the id belongs to a checkpoint of this installation: it would mean two things.
    """
    registered(path)
    installed = registry_file()
    if path.resolve() != installed.resolve() and identifier in registered(installed):
        raise UsageError(
            f"The id '{identifier}' belongs to a checkpoint of this installation; {path} cannot give it another "
            "meaning.",
            hint="Choose another:  --id NAME",
        )
    folder = path.resolve().parent
    with writing(path):
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder")
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission")


def register(path: Path, identifier: str, entry: str) -> Checkpoint:
    """Add the text of an entry to a registry file, or replace the one of this id in its place; what it says now.

    A source of the old entry stays if it pins the same bytes. A link stays a link. Two at once wait for each other.
    Raises UsageError if the file is written in a way that cannot be edited, OutputError, IntegrityError.
    """
    path = path.resolve()
    with _locked(path.parent):
        content = _content(path)
        before = parse_registry(content, str(path))
        text = content.decode()
        added = entry.replace("\n", "\r\n") if "\r\n" in text else entry
        new = _edited(text, identifier, added).encode()
        try:
            after = parse_registry(new, str(path))
        except IntegrityError:
            after = {}
        wanted = parse_registry(f"format = {FORMAT}\n{entry}".encode(), str(path))
        if after != {**before, **wanted} or list(after) != list({**before, **wanted}):
            raise UsageError(
                f"{path} is written in a way that cannot be edited without losing something.",
                hint=f"Put this entry into it:\n\n{entry}",
            )
        if new != content or not path.exists():
            write_bytes_atomic(path, new)
    return after[identifier]


def with_older_sources(old: Checkpoint | None, new: Checkpoint) -> tuple[str, ...]:
    """The sources of a new entry, followed by those of the old one if both pin the same bytes."""
    if old is None or old.digest != new.digest:
        return new.sources
    return (*new.sources, *(source for source in old.sources if source not in new.sources))


# --------------------------------------------------------------------------------------------------- details


def _content(path: Path) -> bytes:
    if not path.exists():
        return f"format = {FORMAT}\n".encode()
    return read_bytes(path, LARGEST, error=IntegrityError)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _edited(text: str, identifier: str, entry: str) -> str:
    lines = text.splitlines(keepends=True)
    span = _span(lines, identifier)
    if span is None:
        end = "\r\n" if "\r\n" in text else "\n"
        return f"{text if text.endswith(end) else text + end}{end}{entry}"
    start, stop = span
    return "".join([*lines[:start], _with_comments(lines[start:stop], entry), *lines[stop:]])


def _span(lines: list[str], identifier: str) -> tuple[int, int] | None:
    """First line and end of an entry's tables, without the comments that belong to what follows."""
    own = re.compile(rf"checkpoint\s*\.\s*\"?{re.escape(identifier)}\"?(\s*\..*)?")
    headers = [
        (number, match[1]) for number, line in enumerate(lines) if (match := _HEADER.fullmatch(line.rstrip()))
    ]
    mine = [place for place, (_, name) in enumerate(headers) if own.fullmatch(name)]
    if not mine:
        return None
    start = headers[mine[0]][0]
    stop = headers[mine[-1] + 1][0] if mine[-1] + 1 < len(headers) else len(lines)
    while not lines[stop - 1].strip() or lines[stop - 1].lstrip().startswith("#"):
        stop -= 1  # ends at the header at the latest
    return start, stop


def _with_comments(old: list[str], entry: str) -> str:
    """The new entry with the comments of the old one beside the same keys and tables."""
    above: dict[str, list[str]] = {}
    beside: dict[str, str] = {}
    waiting: list[str] = []
    for place, line in _places(old):
        comment = _TRAILING_COMMENT.fullmatch(line.rstrip("\r\n"))
        if line.lstrip().startswith("#"):
            waiting.append(line)
        elif place:
            above[place], waiting = waiting, []
            if comment:
                beside[place] = comment[1]
        elif comment:  # within a list of several lines, which becomes one
            waiting.append(f"{comment[1].lstrip()}{line[len(line.rstrip()) :]}")
    written = []
    for place, line in _places(entry.splitlines(keepends=True)):
        body = line.rstrip("\r\n")
        written += above.pop(place, []) if place else []
        written.append(body + beside.pop(place, "") + line[len(body) :] if place else line)
    # Comments on what the new entry lacks come first, so that none is lost.
    orphans = [comment for comments in above.values() for comment in comments] + waiting
    end = "\r\n" if "\r\n" in entry else "\n"
    orphans += [f"{comment.lstrip()}{end}" for comment in beside.values()]
    return "".join([*orphans, *written])


def _places(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line with the name of the table or key it holds, "" for others."""
    table = ""
    for line in lines:
        if header := _HEADER.fullmatch(line.rstrip()):
            table = header[1].replace('"', "")
            yield table, line
        elif key := _KEY.match(line):
            yield f"{table}\n{key[1]}", line
        else:
            yield "", line
