"""Putting an entry into a registry.toml without touching anything else in it: comments, order, blank lines.

What was edited is read again before it is written: it must say exactly what it said before plus the new entry.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.artifacts.performance import Performance
from zoo.errors import IntegrityError, UsageError
from zoo.extras import require
from zoo.registry.installed import registry_file
from zoo.registry.registry_toml import FORMAT, LARGEST, Checkpoint, parse_registry
from zoo.storage.atomic import read_bytes, without_links, write_bytes_atomic, writing
from zoo.storage.file_lock import file_lock

#: A text, or a comment outside of texts.
_COMMENT = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|(#[^\r\n]*)")


def registered(path: Path) -> Mapping[str, Checkpoint]:
    """Return what a registry file lists so far; nothing if there is no such file.

    Raises:
        IntegrityError: The file is not a registry.
        InputError: The file cannot be read.
    """
    return parse_registry(_content(without_links(path)), str(path))


def check_registry(path: Path, identifier: str) -> None:
    """Check that :func:`register` would succeed; call it before anything is published.

    Raises:
        UsageError: The id belongs to a checkpoint of this installation: it would mean two things.
        ZooError: What :func:`register` would raise.
    """
    registered(path)
    installed = registry_file()
    if without_links(path) != without_links(installed) and identifier in registered(installed):
        raise UsageError(
            f"The id '{identifier}' belongs to a checkpoint of this installation; {path} cannot give it another "
            "meaning.",
            hint="Choose another:  --id NAME",
        )
    folder = without_links(path).parent
    with writing(path):
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder")
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission")


def register(path: Path, identifier: str, entry: str) -> Checkpoint:
    """Add an entry to a registry file, or replace the one of this id in its place, and return what it says now.

    A link stays a link. Two processes that register at once wait for each other.

    Args:
        path: The file, which is made if it does not exist.
        identifier: The id of the entry.
        entry: Its text, as :func:`zoo.registry.entry_for` returns it.

    Raises:
        UsageError: The file would not say what it should afterwards; it is left as it was.
        IntegrityError: The file is not a registry.
        OutputError: It cannot be written.
        MissingDependencyError: tomlkit, of the extras `hub` and `compress`, is not installed.
    """
    require("tomlkit", "Editing a registry", extra="hub")
    from tomlkit.exceptions import TOMLKitError

    path = without_links(path)
    with file_lock(path.with_name(f".{path.name}.lock")):
        content = _content(path)
        before = parse_registry(content, str(path))
        text = content.decode()
        added = entry.replace("\n", "\r\n") if "\r\n" in text else entry
        try:
            new = _edited(text, identifier, added).encode()
            after = parse_registry(new, str(path))
        except (IntegrityError, TOMLKitError):
            new, after = content, {}
        wanted = parse_registry(f"format = {FORMAT}\n{entry}".encode(), str(path))
        if after != {**before, **wanted} or list(after) != list({**before, **wanted}):
            raise UsageError(
                f"{path} cannot be edited without losing something.",
                hint=f"Add this entry to it:\n\n{entry}",
            )
        if new != content or not path.exists():
            write_bytes_atomic(path, new)
    return after[identifier]


def record_performance(path: Path, identifier: str, rows: Mapping[str, Performance]) -> Checkpoint:
    """Set what a checkpoint takes on devices in its entry, and return what that says now; all else stays.

    Args:
        path: The registry file.
        identifier: The id of an entry of it.
        rows: By "DEVICE ENGINE".

    Raises:
        UsageError: The file cannot be edited without losing something.
        OutputError: It cannot be written.
        MissingDependencyError: tomlkit, of the extras `hub` and `compress`, is not installed.
    """
    require("tomlkit", "Editing a registry", extra="hub")
    import tomlkit

    from zoo.registry.entry import performance_table

    document: Any = tomlkit.parse(_content(without_links(path)).decode())
    entry = tomlkit.item(document["checkpoint"][identifier].unwrap())
    entry["performance"] = performance_table(rows)
    text = tomlkit.dumps({"checkpoint": {identifier: entry}})
    return register(path, identifier, text)


def with_older_sources(old: Checkpoint | None, new: Checkpoint) -> tuple[str, ...]:
    """Return the sources of a new entry, followed by those of the old one if both pin the same bytes."""
    if old is None or old.digest != new.digest:
        return new.sources
    return (*new.sources, *(source for source in old.sources if source not in new.sources))


# --------------------------------------------------------------------------------------------------- details


def _content(path: Path) -> bytes:
    if not path.exists():
        return f"format = {FORMAT}\n".encode()
    return read_bytes(path, LARGEST, error=IntegrityError)


def _edited(text: str, identifier: str, entry: str) -> str:
    """Return a registry with an entry in the place of the old one of this id, or at the end."""
    import tomlkit
    from tomlkit.items import InlineTable

    document: Any = tomlkit.parse(text)
    entries = document.get("checkpoint", {})
    added: Any = tomlkit.parse(entry)
    new = added["checkpoint"][identifier]
    if identifier in entries:
        for part in _parts(_parts([document], "checkpoint"), identifier):
            _remove_others(part, new)
        _update(entries[identifier], new)
    elif isinstance(entries, InlineTable):
        entries[identifier] = new.unwrap()
    else:
        end = "\r\n" if "\r\n" in text else "\n"
        return f"{text if text.endswith(end) else text + end}{end}{entry}"
    return tomlkit.dumps(document)


def _parts(containers: Iterable[Any], name: str) -> list[Any]:
    """Return the tables of a name in tomlkit's containers; there are several if its lines are not together."""
    return [item.value for each in containers for key, item in each.body if key and key.key == name]


def _remove_others(container: Any, wanted: Mapping[str, Any]) -> None:
    """Remove what is not wanted from a container and the tables in it; comments stay in its place."""
    from tomlkit.items import AbstractTable, Whitespace

    for place, (key, item) in enumerate(container.body):
        if key is None:
            continue
        if key.key in wanted:
            if isinstance(item, AbstractTable):
                _remove_others(item.value, wanted[key.key])
            continue
        container.remove(key)
        if comments := _comments(item):
            text = "".join(f"{comment}{item.trivia.trail}" for comment in comments)
            container.body[place] = (None, Whitespace(text))


def _update(old: Any, new: Any) -> None:
    """Set what a table lacks or says otherwise; a comment next to a value, or among those of a list, stays."""
    import tomlkit
    from tomlkit.items import AbstractTable, Table

    for key, item in new.items():
        if key not in old:
            if isinstance(item, AbstractTable) and not isinstance(old, Table):  # a header does not fit there
                inline = tomlkit.inline_table()
                inline.update(item.unwrap())
                item = inline
            old[key] = item
        elif isinstance(item, AbstractTable):
            _update(old[key], item)
        elif old[key] != item:
            if comments := _comments(old[key]):
                item.trivia.comment = " ".join(comments)
                item.trivia.comment_ws = old[key].trivia.comment_ws or "  "
            old[key] = item


def _comments(item: Any) -> list[str]:
    """Return the comment next to a tomlkit item and those in it."""
    inside = [match[1] for match in _COMMENT.finditer(item.as_string())]
    return [comment for comment in (item.trivia.comment, *inside) if comment]
