"""File names that mean the same file, inside the folder they are meant for, on every system."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

_LONGEST = 200
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in "123456789"}
)


def unsafe_name(name: str) -> str | None:
    """Return why `name` is not a safe relative file name on every system (with "/" between folders); None if it is."""
    if not name or len(name.encode(errors="replace")) > _LONGEST:
        return f"its length is not between 1 and {_LONGEST} bytes"
    if name.startswith("/"):
        return "it is absolute"
    if any(c in '\\:*?"<>|' or not c.isprintable() for c in name):
        return 'it holds a control character or one of \\ : * ? " < > |'
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "a part of it is empty, '.' or '..'"
        if part != part.strip(" ") or part.endswith("."):
            return "a part of it starts or ends with a space, or ends with a dot"
        if part.split(".")[0].lower() in _RESERVED:
            return f"'{part}' is reserved on some systems"
    return None


def clashing_names(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that some file systems take for one (case, Unicode form), or one inside the other."""
    seen: dict[str, str] = {}
    for name in names:
        key = _folded(name)
        if key in seen:
            return seen[key], name
        seen[key] = name
    for key, name in seen.items():
        for parent in PurePosixPath(key).parents:
            if str(parent) in seen:
                return seen[str(parent)], name
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
