"""The registries that count, as one: the installed one, the user's own, and those named by hand.

An id means one set of bytes. Two registries may both list a checkpoint, if they pin the same bytes; then the
sources of the later one are tried after those of the first, and what was measured on devices counts from both.
Anything else is refused, with both files named.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path

from zoo.errors import IntegrityError, UnknownIdError, UsageError
from zoo.registry.installed import registry_file
from zoo.registry.registry_toml import LARGEST, Checkpoint, parse_registry
from zoo.storage.atomic import read_bytes, without_links
from zoo.suggest import did_you_mean

_VARIABLE = "ZOO_REGISTRY"


@functools.cache
def checkpoints() -> Mapping[str, Checkpoint]:
    """Return the checkpoints of the installed and the user's own registry, by id.

    Raises:
        IntegrityError: One of them is damaged, or the installed one absent.
        UsageError: Both mean different things by an id, or ZOO_REGISTRY does not name a file.
    """
    known: Mapping[str, Checkpoint] = _read(registry_file())
    own = users_file()
    return known if own is None else merge(known, _read(own))


def list_checkpoints() -> list[str]:
    """Return the ids of the checkpoints that the installed and the user's own registry list."""
    return sorted(checkpoints())


def checkpoint(name: str) -> Checkpoint:
    """Return the checkpoint called `name`.

    Raises:
        UnknownIdError: There is none; the message suggests the name that was probably meant.
    """
    return find_checkpoint(name, checkpoints())


def find_checkpoint(name: str, known: Mapping[str, Checkpoint]) -> Checkpoint:
    """Return the checkpoint in `known` called `name`.

    Raises:
        UnknownIdError: There is none; the message suggests the name that was probably meant.
    """
    if name not in known:
        raise UnknownIdError(
            f"There is no checkpoint '{name[:100]}'{did_you_mean(name, known) or '.'}",
            hint="List the checkpoints:  zoo list checkpoints",
        )
    return known[name]


def built_in(entry: Checkpoint) -> bool:
    """Return whether an entry is that of the installed registry."""
    return entry.registry == str(registry_file())


def users_file() -> Path | None:
    """Return the user's own registry: $ZOO_REGISTRY ('' for none), else registry.toml in their configuration folder.

    Returns:
        The file; None if there is none.

    Raises:
        UsageError: ZOO_REGISTRY names a file that is not there.
    """
    named = os.environ.get(_VARIABLE)
    if named is not None:
        if named and not Path(named).expanduser().is_file():
            raise UsageError(
                f"{_VARIABLE} names {named}, which is not a file.",
                hint=f"Correct it, or switch it off:  unset {_VARIABLE}",
            )
        return without_links(Path(named).expanduser()) if named else None
    base = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        root = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    except RuntimeError:  # this user has no home
        return None
    path = root / "compression-zoo" / "registry.toml"
    return without_links(path) if path.is_file() else None


def merge(known: Mapping[str, Checkpoint], more: Mapping[str, Checkpoint]) -> Mapping[str, Checkpoint]:
    """Return the entries of two registries; what was measured is that of `more` where both know it.

    Raises:
        UsageError: They pin different bytes under one id.
    """
    result = dict(known)
    for name, entry in more.items():
        first = known.get(name)
        if first is None:
            result[name] = entry
        elif first.digest == entry.digest:
            added = (source for source in entry.sources if source not in first.sources)
            result[name] = dataclasses.replace(
                first,
                sources=(*first.sources, *added),
                performance={**first.performance, **entry.performance},
            )
        else:
            raise UsageError(
                f"The checkpoint '{name}' is listed with different files in {first.registry} "
                f"and in {entry.registry}.",
                hint=f"Give it another id in {entry.registry}.",
            )
    return result


def _read(path: Path) -> dict[str, Checkpoint]:
    return parse_registry(read_bytes(path, LARGEST, error=IntegrityError), str(path))
