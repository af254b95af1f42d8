"""Records of what was installed where, so that a pull can tell without reading all bytes that nothing is to be done.

A record holds, for each file, its pinned sha256 and its fingerprint (size, times, inode) just after its bytes were
verified. A file whose fingerprint is the same was not written since. Damage by the disk leaves the fingerprint as it
is and shows when the file is used: a runner compares the sha256 of each file each time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from zoo.artifacts import FileEntry
from zoo.checkpoints.places import record_path, records_dir
from zoo.contracts.limits import Key, Limits, Sha256
from zoo.errors import InputError, OutputError, ZooError
from zoo.registry import Checkpoint
from zoo.schema import StrictTable, parse_json, read
from zoo.storage.atomic import read_bytes, write_bytes_atomic

_FORMAT = 1
_LARGEST = 1 << 20
_MOST_FILES = 1001


@dataclass(frozen=True)
class Record:
    """What was installed in the folder `path`.

    Attributes:
        digest: Of the whole checkpoint, see :attr:`Checkpoint.digest`.
        registry: Whose entry it was; "" if no registry lists it (unpinned).
        source: Where the files came from.
        files: Those that were installed, with sha256 and size.
        fingerprints: Of each file when it was verified, see :func:`file_fingerprint`.
        pulled: When it was installed, in seconds since 1970.
        used: When it was last used, in seconds since 1970.
    """

    id: Annotated[str, Limits(most=300)]
    path: Path
    digest: Sha256
    registry: str
    source: str
    files: Annotated[Mapping[str, FileEntry], Limits(most=_MOST_FILES)]
    fingerprints: Annotated[
        Mapping[str, Annotated[str, Limits(most=200)]], Key("looks"), Limits(most=_MOST_FILES)
    ]
    pulled: int
    used: float = 0.0

    @property
    def size(self) -> int:
        """Return the total bytes of the installed files."""
        return sum(entry.size for entry in self.files.values())

    def holds(self, names: frozenset[str]) -> bool:
        """Return whether exactly the files `names` are there, with the fingerprints they had when verified."""
        return names == self.fingerprints.keys() == _files_in(self.path) and all(
            file_fingerprint(self.path / name) == self.fingerprints[name] for name in names
        )


def make_record(wanted: Checkpoint, path: Path, names: frozenset[str], source: str) -> Record:
    """Return a record of the files `names`, which were just verified, in the folder `path`."""
    fingerprints = {name: file_fingerprint(path / name) for name in sorted(names)}
    files = {name: wanted.files[name] for name in fingerprints}
    return Record(
        wanted.id,
        Path(os.path.abspath(path)),
        wanted.digest,
        wanted.registry,
        source,
        files,
        fingerprints,
        int(time.time()),
    )


def file_fingerprint(path: Path) -> str:
    """Return size, times of the last changes and inode of a regular file; "" if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _files_in(folder: Path) -> set[str]:
    """Names of the files in a folder and those below it."""
    return {
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder)
        for name in names
    }


def write_record(record: Record) -> None:
    """Write a record. If that is not possible there is none, and the next pull reads all bytes again."""
    content = {"format": _FORMAT, **dataclasses.asdict(record), "path": os.fspath(record.path)}
    content["looks"] = content.pop("fingerprints")
    del content["used"]  # the time of the file says it
    with contextlib.suppress(OSError, OutputError):
        path = record_path(record.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, json.dumps(content).encode())


def read_record(folder: Path) -> Record | None:
    """Return the record of what was installed in `folder`; None if there is none that can be read."""
    return _read(record_path(folder))


def all_records() -> Iterator[Record]:
    """Yield all records that can be read."""
    try:
        names = sorted(os.listdir(records_dir()))
    except OSError:
        return
    for name in names:
        if name.endswith(".json") and (record := _read(records_dir() / name)):
            yield record


def note_use(folder: Path) -> None:
    """Record the use of what is in `folder`, as the modification time of its record."""
    with contextlib.suppress(OSError, OutputError):
        os.utime(record_path(folder))


def remove_record(folder: Path) -> None:
    """Forget what was installed in `folder`."""
    with contextlib.suppress(OSError, OutputError):
        record_path(folder).unlink(missing_ok=True)


def distrust(folder: Path) -> None:
    """Have the next pull read all files in `folder` again, because one of them is not what it should be."""
    record = read_record(folder)
    if record is not None:
        write_record(dataclasses.replace(record, fingerprints={}))


def _read(path: Path) -> Record | None:
    try:
        content = read_bytes(path, _LARGEST)
        used = path.stat().st_mtime
        table = StrictTable(parse_json(content, str(path), error=InputError), str(path), error=InputError)
        table.check_format("record", _FORMAT)
        record = read(Record, table, path=Path(table.text("path")), used=used)
    except (ZooError, OSError):
        return None
    # A record moved to another name, or made for another cache, says nothing about this folder.
    return record if record_path(record.path) == path else None
