"""Results that were computed once, kept in the cache together with what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import InputError, OutputError
from zoo.schema import StrictTable, parse_json
from zoo.storage.atomic import open_regular, reading, write_bytes_atomic
from zoo.storage.cache_dir import cache_dir
from zoo.version import __version__

_SUFFIX = ".kept"
_LARGEST_HEADER = 10_000


class ResultCache:
    """One result of a kind, found again by its subject: everything it depends on, this version of zoo included.

    A file of the cache holds the subject and the digest of the result in its first line, then the result. If there
    is no place for a cache or it cannot be written, nothing is kept and no error is raised.
    """

    def __init__(self, kind: str, subject: Mapping[str, Any], *code: Path) -> None:
        """Find the file of a result; nothing is read yet.

        Args:
            kind: Name of a folder of the cache.
            subject: Everything the result depends on, as JSON can write it.
            code: Modules the result depends on; a change of any module in their folders makes it outdated.
        """
        text = json.dumps({**subject, **_version(*code)}, sort_keys=True)
        self._subject = json.loads(text)  # as it is read back
        key = hashlib.sha256(text.encode()).hexdigest()
        self.path: Path | None = None
        with contextlib.suppress(OutputError):
            self.path = cache_dir() / kind / (key[:32] + _SUFFIX)

    def read(self, most: int) -> bytes | None:
        """Return the result; None if there is none, it is damaged, or it has more than `most` bytes."""
        if self.path is None:
            return None
        try:
            with open_regular(self.path) as stream, reading(self.path):
                told = json.loads(stream.readline(_LARGEST_HEADER))
                if told["of"] != self._subject or os.fstat(stream.fileno()).st_size > most + _LARGEST_HEADER:
                    return None
                result = stream.read()
            whole = told["sha256"] == hashlib.sha256(result).hexdigest()
        except (InputError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return result if whole and len(result) <= most else None

    def read_table(self, most: int) -> StrictTable | None:
        """Return the result that :meth:`write_table` kept; None in the cases that :meth:`read` names."""
        content, source = self.read(most), str(self.path)
        if content is None:
            return None
        try:
            return StrictTable(parse_json(content, source, error=InputError), source, error=InputError)
        except InputError:
            return None

    @property
    def writable(self) -> bool:
        """Return whether a result can be kept, as far as the folder's permissions show; make the folder."""
        if self.path is None:
            return False
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        return os.access(self.path.parent, os.W_OK)

    def write(self, result: bytes) -> None:
        """Keep a result, replacing an earlier one."""
        if self.path is None or not self.writable:
            return
        header = {"of": self._subject, "sha256": hashlib.sha256(result).hexdigest()}
        # A board's file system may be read-only, or full: the result is then computed each time.
        with contextlib.suppress(OSError, OutputError):
            write_bytes_atomic(self.path, json.dumps(header).encode() + b"\n" + result)

    def write_table(self, result: Mapping[str, Any]) -> None:
        """Keep a table that JSON can write, replacing an earlier one."""
        self.write(json.dumps(result).encode())


def outdated(kind: str, current: Mapping[str, Any], *code: Path) -> Iterator[Path]:
    """Yield the files of a kind whose subject differs from `current`, or that another version of zoo made."""
    expected = {**current, **_version(*code)}
    try:
        paths = sorted((cache_dir() / kind).glob("*" + _SUFFIX))
    except OSError:
        return
    for path in paths:
        try:
            with path.open("rb") as stream:
                subject = json.loads(stream.readline(_LARGEST_HEADER))["of"]
            fits = all(subject.get(name) == value for name, value in expected.items())
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            fits = False
        if not fits:
            yield path


def _version(*code: Path) -> dict[str, Any]:
    """Return the version of zoo and the time of its code's last change: a checkout changes without its version."""
    changed = 0
    for module in code:
        with os.scandir(module.parent) as entries:
            times = [each.stat().st_mtime_ns for each in entries if each.name.endswith(".py")]
        changed = max(changed, *times)
    return {"zoo": __version__, "changed": changed}
