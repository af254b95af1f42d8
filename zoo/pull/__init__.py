"""Fetching a checkpoint: exactly the bytes that the registry pins, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from zoo.artifacts import FileEntry, open_artifact
from zoo.cache import cache_dir
from zoo.catalogue import PACKAGE_SOURCE, Checkpoint, checkpoint, shipped_folder
from zoo.contracts import Reporter, SilentReporter
from zoo.errors import IntegrityError, OutputError, UsageError, ZooError
from zoo.files import CHUNK, atomic_folder, open_regular, reading, sha256_of


class Source(Protocol):
    """Where the files of checkpoints come from. What it gives is not trusted."""

    def open(self, wanted: Checkpoint, name: str) -> BinaryIO:
        """A stream of the file `name`. Raises ZooError."""


class PackageSource:
    """The checkpoints that are part of this installation."""

    def open(self, wanted: Checkpoint, name: str) -> BinaryIO:
        return open_regular(shipped_folder(wanted.id) / name)


#: By what a checkpoint's `sources` say.
SOURCES: dict[str, Callable[[], Source]] = {PACKAGE_SOURCE: PackageSource}


@dataclass(frozen=True)
class Pulled:
    """What a pull gave. fresh: False if the very same bytes were there already."""

    checkpoint: Checkpoint
    path: Path
    fresh: bool


def cached_path(wanted: Checkpoint) -> Path:
    """Where a checkpoint lies in the cache once it was pulled; another place for other bytes."""
    return cache_dir() / "checkpoints" / wanted.id / wanted.digest[:16]


def pull(name: str, out: Path | None = None, *, report: Reporter | None = None) -> Pulled:
    """Install the checkpoint `name` in the folder `out`, by default in the cache.

    The folder appears whole, after every file was compared with its pinned sha256, or not at all. If it is
    there with the same bytes nothing is done; in the cache other bytes are replaced, elsewhere they are
    refused. Raises UnknownIdError, IntegrityError or OutputError.
    """
    wanted = checkpoint(name)
    target = cached_path(wanted) if out is None else out
    if _holds(target, wanted):
        return Pulled(wanted, target, fresh=False)
    if out is not None and target.is_dir() and any(target.iterdir()):
        raise OutputError(
            f"{target} exists and is not the checkpoint {name}.",
            hint=f"Remove it, or name another folder:  zoo pull {name} --out DIR",
        )
    source = _source_of(wanted)
    report = report or SilentReporter()
    report.start(f"pull {name}", wanted.size, "B")
    try:
        with atomic_folder(target, replace=out is None) as folder:
            for file, entry in wanted.files.items():
                with source.open(wanted, file) as stream:
                    _copy(stream, folder / file, entry, f"{name}/{file}", report)
            open_artifact(folder)
    except OutputError:
        # Another process may have installed the same bytes meanwhile; then all is well.
        if not _holds(target, wanted):
            raise
    report.finish()
    return Pulled(wanted, target, fresh=True)


def _source_of(wanted: Checkpoint) -> Source:
    for source in wanted.sources:
        if source in SOURCES:
            return SOURCES[source]()
    raise UsageError(
        f"The checkpoint {wanted.id} comes from {wanted.sources[0]!r}, which this version cannot fetch from.",
        hint="Upgrade with:  pip install --upgrade compression-zoo",
    )


def _copy(stream: BinaryIO, target: Path, entry: FileEntry, shown: str, report: Reporter) -> None:
    digest, size = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        while size <= entry.size:
            with reading(Path(shown)):
                chunk = stream.read(CHUNK)
            if not chunk:
                break
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            report.advance(len(chunk))
    if size != entry.size or digest.hexdigest() != entry.sha256:
        what = "longer" if size > entry.size else "shorter" if size < entry.size else "altered"
        raise IntegrityError(
            f"{shown} is not the file that the registry pins (it is {what}); nothing was installed.",
            hint="If this happens again, install compression-zoo anew and report it.",
        )


def _holds(folder: Path, wanted: Checkpoint) -> bool:
    """Whether `folder` is an artifact of exactly the pinned files."""
    if not folder.is_dir():
        return False
    try:
        artifact = open_artifact(folder)
        found = {"zoo.json", *artifact.manifest.files}
        return found == set(wanted.files) and all(
            sha256_of(folder / name) == entry.sha256 for name, entry in wanted.files.items()
        )
    except ZooError:
        return False
