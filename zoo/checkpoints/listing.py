"""The contents of the cache: checkpoints, and leftovers that can be removed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.artifacts import FileEntry, open_artifact
from zoo.checkpoints.places import INSTALLED, cached_path
from zoo.checkpoints.records import read_record
from zoo.engines.leftovers import cached_leftovers
from zoo.errors import ZooError
from zoo.registry import Checkpoint, checkpoints
from zoo.storage.cache_dir import cache_dir
from zoo.storage.flock import try_lock


@dataclass(frozen=True)
class CachedCheckpoint:
    """A checkpoint in the cache.

    Attributes:
        id: With "@COMMIT" for one of the Hub that no registry lists.
        registry: Whose entry it is; "" if none lists it (unpinned), None if its origin is unknown.
        current: Whether a registry that counts lists exactly these bytes now.
        whole: False if only what a device needs was fetched.
        size: In bytes.
        used: When it was last used, in seconds since 1970; None if unknown.
    """

    id: str
    path: Path
    registry: str | None
    current: bool
    whole: bool
    size: int
    used: float | None

    @property
    def pinned(self) -> bool:
        """Return whether a registry says what its bytes must be."""
        return bool(self.registry)


@dataclass(frozen=True)
class Leftover:
    """Something else in the cache that can be removed, such as a partial download or a damaged checkpoint.

    Attributes:
        what: A description of its kind.
        size: In bytes.
    """

    what: str
    path: Path
    size: int


def cached_checkpoints() -> list[CachedCheckpoint]:
    """Return the checkpoints in the cache, by id.

    Raises:
        OutputError: There is no place for a cache.
    """
    listed = {cached_path(each): each for each in checkpoints().values()}
    return sorted(
        (_described(folder, listed) for folder in _installed()), key=lambda each: (each.id, str(each.path))
    )


def leftovers() -> list[Leftover]:
    """Return whatever else is in the cache and not in use by any process, so that it can be removed."""
    root = cache_dir()
    found: dict[Path, str] = {}
    for what, path in (
        *(("partial download", path) for path in _entries(root / "partial") if is_idle(path)),
        *(("damaged checkpoint", path) for path in _entries(root / "quarantine")),
        *(("left by a kill", path) for path in _entries(root / "trash")),
        *(("left by a kill", path) for path in _abandoned(root)),
        *cached_leftovers(),
    ):
        found[path] = what
    return [Leftover(what, path, _size(path)) for path, what in sorted(found.items(), key=_by_kind)]


# --------------------------------------------------------------------------------------------------- details


def _by_kind(found: tuple[Path, str]) -> tuple[str, Path]:
    path, what = found
    return what, path


def _installed() -> Iterator[Path]:
    """The folders in which checkpoints are installed: two levels below checkpoints/, three below hub/."""
    for kind, depth in zip(INSTALLED, (2, 3), strict=True):
        level = [cache_dir() / kind]
        for _ in range(depth):
            level = [
                path for parent in level for path in _entries(parent) if path.is_dir() and path.name[0] != "."
            ]
        yield from level


def _described(folder: Path, listed: Mapping[Path, Checkpoint]) -> CachedCheckpoint:
    record, entry = read_record(folder), listed.get(folder)
    registry = entry.registry if entry else record.registry if record else None
    known: Mapping[str, FileEntry] = entry.files if entry else record.files if record else {}
    return CachedCheckpoint(
        id=entry.id if entry else record.id if record else _id_by_place(folder),
        path=folder,
        registry=registry,
        current=entry is not None,
        whole=bool(known) and _is_whole(folder),
        size=_size(folder),
        used=record.used if record else None,
    )


def _id_by_place(folder: Path) -> str:
    parts = folder.relative_to(cache_dir()).parts
    return f"{'/'.join(parts[1:-1])}@{parts[-1]}" if parts[0] == "hub" else parts[1]


def _is_whole(folder: Path) -> bool:
    try:
        open_artifact(folder)
    except ZooError:
        return False
    return True


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _abandoned(root: Path) -> Iterator[Path]:
    """Temporary names that nobody holds, next to whatever the cache keeps; locks of killed pulls."""
    kept = [root, *(path for path in _entries(root) if path.is_dir() and not path.is_symlink())]
    for place in sorted({*kept, *(path.parent for path in _installed())}):
        for path in _entries(place):
            if path.name.startswith(".") and path.suffix == ".tmp" and is_idle(path):
                yield path
    yield from (path for path in _entries(root / "locks") if is_idle(path))


def is_idle(path: Path) -> bool:
    """Return whether no process holds the lock of a file or folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    try:
        if not path.is_dir():
            return path.lstat().st_size
        return sum(_size(each) for each in path.iterdir() if not each.is_symlink())
    except OSError:
        return 0
