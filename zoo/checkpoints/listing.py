"""What is in the cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.artifacts import FileEntry, open_artifact
from zoo.checkpoints.places import INSTALLED, cached_path
from zoo.checkpoints.records import read_record
from zoo.engines.ort_session import runtime_version
from zoo.engines.prepared_models import other_versions
from zoo.engines.tensorrt import TensorRtEngine
from zoo.engines.tensorrt_cache import outdated
from zoo.errors import ZooError
from zoo.registry import Checkpoint, checkpoints
from zoo.storage.cache_dir import cache_dir
from zoo.storage.flock import try_lock


@dataclass(frozen=True)
class Kept:
    """A checkpoint in the cache.

    id:       with "@COMMIT" for one of the Hub that no registry lists.
    registry: whose entry it is; "" if none lists it (unpinned), None if it is not known whence it came.
    current:  whether a registry that counts now lists exactly these bytes.
    whole:    False if only what a device needs was fetched.
    size:     bytes. used: seconds since 1970, None if unknown.
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
        """Whether a registry said what its bytes must be."""
        return bool(self.registry)


@dataclass(frozen=True)
class Rest:
    """Something else in the cache that takes room: a partial download, a damaged checkpoint, what a kill left."""

    what: str
    path: Path
    size: int


def kept() -> list[Kept]:
    """The checkpoints in the cache, by id. Raises OutputError if there is no place for a cache."""
    listed = {cached_path(each): each for each in checkpoints().values()}
    return sorted(
        (_kept(folder, listed) for folder in _installed()), key=lambda each: (each.id, str(each.path))
    )


def rests() -> list[Rest]:
    """Whatever else lies in the cache and can go, as nobody is using it."""
    root = cache_dir()
    found = [
        *(
            Rest("partial download", path, _size(path))
            for path in _entries(root / "partial")
            if is_idle(path)
        ),
        *(Rest("damaged checkpoint", path, _size(path)) for path in _entries(root / "quarantine")),
        *(Rest("left by a kill", path, _size(path)) for path in _entries(root / "trash")),
        *(Rest("left by a kill", path, _size(path)) for path in _abandoned(root)),
        *_made_by_others(),
    ]
    return sorted(found, key=lambda each: (each.what, str(each.path)))


# --------------------------------------------------------------------------------------------------- details


def _installed() -> Iterator[Path]:
    """The folders in which checkpoints are installed: two levels below checkpoints/, three below hub/."""
    for kind, depth in zip(INSTALLED, (2, 3), strict=True):
        level = [cache_dir() / kind]
        for _ in range(depth):
            level = [
                path for parent in level for path in _entries(parent) if path.is_dir() and path.name[0] != "."
            ]
        yield from level


def _kept(folder: Path, listed: Mapping[Path, Checkpoint]) -> Kept:
    record, entry = read_record(folder), listed.get(folder)
    registry = entry.registry if entry else record.registry if record else None
    known: Mapping[str, FileEntry] = entry.files if entry else record.files if record else {}
    return Kept(
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
    """Temporary names that nobody holds, beside installed checkpoints and records; locks of killed pulls."""
    places = [root / "records", *(path.parent for path in _installed())]
    for place in sorted(set(places)):
        for path in _entries(place):
            if path.name.startswith(".") and path.suffix == ".tmp" and is_idle(path):
                yield path
    yield from (path for path in _entries(root / "locks") if is_idle(path))


def _made_by_others() -> Iterator[Rest]:
    """What engines must make anew; nothing where that cannot be told, as ONNX Runtime is not there."""
    with contextlib.suppress(ZooError):
        for path in outdated(TensorRtEngine().version):
            yield Rest("TensorRT engine for another version", path, _size(path))
    with contextlib.suppress(ZooError):
        for path in other_versions(runtime_version()):
            yield Rest("network prepared for another version", path, _size(path))


def is_idle(path: Path) -> bool:
    """Whether no process holds the lock of a file or folder."""
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
