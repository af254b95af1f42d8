"""Keeping the cache in order: finding what is damaged, and removing what is not needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zoo.artifacts import open_artifact
from zoo.artifacts.manifest import MANIFEST_NAME
from zoo.checkpoints.listing import CachedCheckpoint, Leftover, cached_checkpoints, leftovers
from zoo.checkpoints.places import cached_path, lock_path
from zoo.checkpoints.records import all_records, make_record, read_record, remove_record, write_record
from zoo.errors import IntegrityError, ZooError
from zoo.registry import Checkpoint, checkpoints
from zoo.storage.atomic import sha256_of, writing
from zoo.storage.cache_dir import cache_dir
from zoo.storage.file_lock import file_lock, release, try_acquire

_DAY = 86_400


@dataclass(frozen=True)
class CheckedCheckpoint:
    """A checkpoint whose files were all read.

    Attributes:
        problem: What is wrong with it; "" if nothing is.
        moved: Where it is now, if it is damaged.
    """

    cached: CachedCheckpoint
    problem: str = ""
    moved: Path | None = None


def verify(advance: Callable[[int], None] = lambda size: None) -> list[CheckedCheckpoint]:
    """Read every file of every checkpoint in the cache; a damaged one is moved to the quarantine.

    Args:
        advance: Called with the bytes of each checkpoint that was read.

    Raises:
        OutputError: A damaged checkpoint cannot be moved.
    """
    listed = {cached_path(each): each for each in checkpoints().values()}
    result = []
    for each in cached_checkpoints():
        entry = listed.get(each.path)
        if problem := _problem(each.path, entry):
            # A pull may have been replacing it meanwhile: only what is still damaged without one is.
            with file_lock(_lock_of(each.path)):
                problem = _problem(each.path, entry)
                moved = _set_aside(each.path, "quarantine") if problem else None
        result.append(CheckedCheckpoint(each, problem, moved if problem else None))
        advance(each.size)
    return result


def prunable(unused_days: float | None = None) -> list[CachedCheckpoint | Leftover]:
    """Return what can be removed: partial downloads, damaged, unlisted and superseded checkpoints.

    A checkpoint without a record that no registry lists counts as unlisted; one that was pulled by its commit or from
    a registry named by hand does not.

    Args:
        unused_days: Also return checkpoints that were not used for that many days.
    """
    found: list[CachedCheckpoint | Leftover] = []
    ids = checkpoints().keys()
    for each in cached_checkpoints():
        superseded = not each.current and each.id in ids
        old = unused_days is not None and time.time() - (each.used or 0) >= unused_days * _DAY
        if each.registry is None or superseded or old:
            found.append(each)
    return [*found, *leftovers()]


def remove(item: CachedCheckpoint | Leftover) -> bool:
    """Remove something from the cache in one step; return False if a pull is at work on it.

    Raises:
        OutputError: It cannot be removed.
    """
    if isinstance(item, CachedCheckpoint):
        lock = _lock_of(item.path)
    elif item.path.is_dir():
        return _delete(item.path)
    else:
        lock = item.path
    descriptor = try_acquire(lock)
    if descriptor is None:
        return False
    try:
        # A file that nobody holds is its own lock, and goes with it.
        return isinstance(item, Leftover) or _delete(_set_aside(item.path, "trash"))
    finally:
        release(lock, descriptor)


def forget_missing() -> None:
    """Remove the records of folders that are no longer there."""
    for record in all_records():
        if not record.path.is_dir():
            remove_record(record.path)


# --------------------------------------------------------------------------------------------------- details


def _problem(folder: Path, entry: Checkpoint | None) -> str:
    """What is wrong with the files in a folder, compared with the registry, else with what was noted at the pull."""
    record = read_record(folder)
    try:
        artifact = open_artifact(folder, subset=True)
        found = {MANIFEST_NAME, *artifact.manifest.files} - artifact.absent
        pins = entry.files if entry else record.files if record else artifact.manifest.files
        for name in sorted(found):
            if name in pins and sha256_of(folder / name) != pins[name].sha256:
                raise IntegrityError(f"{folder / name} is not the file that was pulled.")
    except ZooError as error:
        return error.message
    if entry:
        write_record(make_record(entry, folder, frozenset(found), record.source if record else ""))
    return ""


def _lock_of(folder: Path) -> Path:
    """What a pull into `folder` holds; of a folder that no pull made, a lock of its own."""
    record = read_record(folder)
    return lock_path(record.digest) if record else folder.with_name(f".{folder.name}.lock")


def _set_aside(folder: Path, where: str) -> Path:
    """Move a folder out of sight, in one step."""
    target = cache_dir() / where / f"{folder.parent.name}-{folder.name[:16]}-{time.time_ns()}"
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, target)
    remove_record(folder)
    with contextlib.suppress(OSError):  # empty folders of the id and the namespace
        for parent in folder.parents:
            parent.rmdir()
    return target


def _delete(folder: Path) -> bool:
    with writing(folder):
        shutil.rmtree(folder)
    return True
