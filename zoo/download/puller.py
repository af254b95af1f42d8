"""Pulling a checkpoint into the cache or a folder, if it is not there yet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo import plugins
from zoo.artifacts import open_artifact
from zoo.artifacts.manifest import LARGEST_MANIFEST, MANIFEST_NAME, needed_by_runner, parse_manifest
from zoo.checkpoints.places import cached_path, hub_path, lock_path, partial_path
from zoo.checkpoints.records import make_record, read_record, write_record
from zoo.contracts import DeviceProfile, Reporter, SilentReporter
from zoo.download.named_registry import load_registries
from zoo.download.partial import remove_leftover
from zoo.download.retry import RetryLimits
from zoo.download.revision import (
    MutableRevision,
    checkpoint_at,
    mutable_revision_error,
    provenance_note,
    resolve_request,
)
from zoo.errors import IntegrityError, NetworkError, OutputError, ZooError
from zoo.registry import Checkpoint
from zoo.registry.sources import HubAddress
from zoo.storage.atomic import read_bytes, reading, sha256_of, writing
from zoo.storage.file_lock import file_lock


@dataclass(frozen=True)
class Pulled:
    """The result of a pull.

    Attributes:
        files: Names of the files that are there.
        fresh: False if the very same bytes were there already.
    """

    checkpoint: Checkpoint
    path: Path
    files: frozenset[str]
    fresh: bool

    @property
    def size(self) -> int:
        """Return the bytes of the files that are there."""
        return sum(self.checkpoint.files[name].size for name in self.files)


def pull(
    name: str,
    out: str | os.PathLike[str] | None = None,
    *,
    device: DeviceProfile | str | None = None,
    registry: str | None = None,
    known: Mapping[str, Checkpoint] | None = None,
    reporter: Reporter | None = None,
    limits: RetryLimits | None = None,
) -> Pulled:
    """Install a checkpoint in the folder `out`, by default in the cache.

    The folder appears whole, after every file was compared with its pinned sha256, or not at all. If it is
    there with the same bytes nothing is done, and no connection made; in the cache other bytes are replaced,
    elsewhere they are refused.

    Args:
        name: Id of a checkpoint, ID@REVISION, or NAMESPACE/NAME@COMMIT of the Hub.
        out: The folder.
        device: Fetch only what this device needs: a profile or its id.
        registry: A file or an https address of one more registry.
        known: The entries of all registries that count, instead of those that are found.
        reporter: Is told of the progress.
        limits: Timeouts and retries; by default those of the environment.

    Raises:
        UnknownIdError: Nothing is called so.
        UsageError: The name can move, or the registries contradict each other.
        IntegrityError: What was fetched is not what is pinned.
        InputError: A local source cannot be read.
        NetworkError: No source answers, or connections are forbidden.
        OutputError: The folder holds something else or cannot be written.
    """
    report, limits = reporter or SilentReporter(), limits or RetryLimits.of_environment()
    known = load_registries(registry, report) if known is None else known
    out = None if out is None else Path(out)
    device = plugins.device(device) if isinstance(device, str) else device
    request = resolve_request(name, known)
    if isinstance(request, MutableRevision):
        raise _refused(request, limits, report)
    wanted = request if isinstance(request, Checkpoint) else _unpinned(request, out, limits, report)
    if remark := provenance_note(wanted, known):
        report.note(remark)
    target = cached_path(wanted) if out is None else out
    if (files := _held(target, wanted, device)) is not None:
        return Pulled(wanted, target, files, fresh=False)
    if out is not None:
        _check_free(target, wanted)
    with file_lock(
        lock_path(wanted.digest),
        waiting=lambda: report.note(f"Another process is pulling {wanted.id}; waiting for it."),
    ):
        if (files := _held(target, wanted, device)) is not None:
            return Pulled(wanted, target, files, fresh=False)
        files = _fetch(wanted, target, device, limits, report)
    return Pulled(wanted, target, files, fresh=True)


def verify_folder(folder: Path, wanted: Checkpoint) -> frozenset[str] | None:
    """Return the files of `wanted` in `folder`, all read and compared with their pins.

    None if the folder is not there, holds anything else, or lacks what every device needs.
    """
    try:
        with reading(folder):
            if not folder.is_dir():
                return None
        artifact = open_artifact(folder, subset=True)
        found = frozenset({MANIFEST_NAME, *artifact.manifest.files} - artifact.absent)
        same = found <= wanted.files.keys() and all(
            sha256_of(folder / name) == wanted.files[name].sha256 for name in found
        )
    except ZooError:
        return None
    return found if same else None


# --------------------------------------------------------------------------------------------------- details


def _held(target: Path, wanted: Checkpoint, device: DeviceProfile | None) -> frozenset[str] | None:
    """Return the files in `target`, if they are all that is needed, each verified since it was last written."""
    record = read_record(target)
    if record is None or record.digest != wanted.digest or not record.holds(frozenset(record.files)):
        found = verify_folder(target, wanted)
        if found is None:
            return None
        record = make_record(wanted, target, found, record.source if record else "")
        write_record(record)
    files = frozenset(record.files)
    needed = frozenset(wanted.files)
    if device is not None:
        content = read_bytes(target / MANIFEST_NAME, LARGEST_MANIFEST, error=IntegrityError)
        needed = needed_by_runner(parse_manifest(content, str(target / MANIFEST_NAME)))
    if not needed <= files:
        return None
    # What a pull left that was killed after it had installed them:
    for path in (lock_path(wanted.digest), *(partial_path(entry.sha256) for entry in wanted.files.values())):
        remove_leftover(path)
    return files


def _check_free(target: Path, wanted: Checkpoint) -> None:
    """Refuse a folder that holds something else. Raises OutputError."""
    with writing(target):
        occupied = target.is_dir() and any(target.iterdir())
    if occupied and verify_folder(target, wanted) is None:
        raise OutputError(
            f"{target} exists and is not the checkpoint {wanted.id}.",
            hint=f"Remove it, or name another folder:  zoo pull {wanted.id} --out DIR",
        )


def _fetch(
    wanted: Checkpoint, target: Path, device: DeviceProfile | None, limits: RetryLimits, report: Reporter
) -> frozenset[str]:
    from zoo.download.fetch import fetch

    before = read_record(target)
    keep = (
        frozenset(before.files) & wanted.files.keys()
        if before and before.digest == wanted.digest
        else frozenset()
    )
    in_cache = target == cached_path(wanted)
    files, source = fetch(
        wanted,
        target,
        device=device,
        keep=keep,
        replace=in_cache or verify_folder(target, wanted) is not None,
        limits=limits,
        report=report,
    )
    write_record(make_record(wanted, target, files, source))
    return files


def _unpinned(address: HubAddress, out: Path | None, limits: RetryLimits, report: Reporter) -> Checkpoint:
    """Return what lies at a commit of the Hub, by its own manifest; that of an earlier pull will do."""
    for folder in (out, hub_path(address)):
        record = read_record(folder) if folder else None
        if folder is None or record is None or record.registry or MANIFEST_NAME not in record.files:
            continue
        try:
            content = read_bytes(folder / MANIFEST_NAME, LARGEST_MANIFEST, error=IntegrityError)
            found = checkpoint_at(address, content)
        except ZooError:
            continue
        entry = record.files[MANIFEST_NAME]
        if record.id == found.id and hashlib.sha256(content).hexdigest() == entry.sha256:
            return found
    from zoo.download.hub_lookup import read_unpinned_checkpoint

    return read_unpinned_checkpoint(address, limits, report)


def _refused(moving: MutableRevision, limits: RetryLimits, report: Reporter) -> ZooError:
    from zoo.download.endpoint import offline

    if offline():
        return mutable_revision_error(moving, None)
    from zoo.download.hub_lookup import resolve_commit

    try:
        return mutable_revision_error(moving, resolve_commit(moving, limits, report))
    except NetworkError as error:
        return error
