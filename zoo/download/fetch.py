"""From the sources of a checkpoint to a folder that holds exactly its bytes."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from zoo.artifacts import open_artifact
from zoo.artifacts.manifest import MANIFEST_NAME, Manifest, needed_by_runner, parse_manifest
from zoo.checkpoints.places import cached_path
from zoo.contracts import DeviceProfile, Reporter
from zoo.download.origins import FolderSource, open_source
from zoo.download.partial import Partial
from zoo.download.retry import RetryLimits
from zoo.download.web import Client
from zoo.errors import IntegrityError, NetworkError, OutputError, ZooError
from zoo.registry import Checkpoint
from zoo.storage.atomic import atomic_folder, open_regular, reading

#: Beyond the files themselves: folders, records, a little air for what else the device writes.
_SPARE = 1 << 20


def fetch(
    wanted: Checkpoint,
    target: Path,
    *,
    device: DeviceProfile | None,
    keep: frozenset[str],
    replace: bool,
    limits: RetryLimits,
    report: Reporter,
) -> tuple[frozenset[str], str]:
    """Make `target` a folder of the files of `wanted`, or of those that `device` needs.

    Args:
        wanted: The checkpoint.
        target: The folder to make.
        device: Limits the files to those it needs; None for all.
        keep: Further files to fetch, because they were there before.
        replace: Whether an existing folder is replaced.
        limits: How often and how long to try.
        report: Shows progress.

    Returns:
        The names of the files, and the source they came from.

    Raises:
        ZooError: The checkpoint cannot be fetched; nothing is installed.
    """
    with contextlib.ExitStack() as stack:
        sources = _Sources(wanted, stack.enter_context(Client(limits, report)))
        files = _Files(wanted, sources, stack)
        manifest = _manifest(wanted, files.obtain(MANIFEST_NAME, report))
        if device and manifest.precision not in device.precisions:
            report.note(f"{device.id} does not support {manifest.precision}; it may be slow there.")
        names = frozenset(wanted.files) if device is None else needed_by_runner(manifest) | keep
        plain, at, commit = wanted.id.partition("@")
        report.start(f"pull {plain}{at}{commit[:8]}", sum(wanted.files[name].size for name in names), "B")
        _check_room(wanted, names, files.partials, target)
        # In one order for all processes: two that wait for each other's files would wait forever.
        for name in sorted(names, key=lambda name: (name != MANIFEST_NAME, wanted.files[name].sha256)):
            files.obtain(name, report)
        _install(target, files.partials, names, replace=replace, subset=names != wanted.files.keys())
        report.finish()
        return names, sources.used


class _Files:
    """The files of one checkpoint, as far as they were fetched; they stay locked until all are installed."""

    def __init__(self, wanted: Checkpoint, sources: _Sources, stack: contextlib.ExitStack) -> None:
        self.partials: dict[str, Partial] = {}
        self._by_content: dict[str, Partial] = {}
        self._wanted = wanted
        self._sources = sources
        self._stack = stack

    def obtain(self, name: str, report: Reporter) -> Partial:
        """Return the complete and verified file `name`."""
        entry = self._wanted.files[name]
        known = self.partials.get(name) or self._by_content.get(entry.sha256)
        if known is None:
            partial = self._stack.enter_context(
                Partial(entry, lambda: report.note(f"Another process is fetching {name}; waiting for it."))
            )
            report.advance(partial.size)
            self._sources.fetch(name, partial, report)
            self._by_content[entry.sha256] = known = partial
        else:
            report.advance(entry.size)
        self.partials[name] = known
        return known


class _Sources:
    """The sources of a checkpoint; one that failed is asked last for the files that follow."""

    def __init__(self, wanted: Checkpoint, client: Client) -> None:
        self.used = wanted.sources[0]
        self._wanted = wanted
        self._client = client
        self._addresses = list(wanted.sources)

    def fetch(self, name: str, partial: Partial, report: Reporter) -> None:
        """Complete `partial`. Raises the error of the only source, or one that tells those of all."""
        if not partial.missing and partial.problem() is None:
            return
        if self._from_cache(name, partial, report):
            return
        failures: list[ZooError] = []
        for address in list(self._addresses):
            try:
                open_source(address, self._wanted, self._client).fetch(name, partial, report)
                self.used = address
                return
            except OutputError:
                raise
            except ZooError as error:
                failures.append(error)
                self._addresses.remove(address)
                self._addresses.append(address)
                if len(failures) < len(self._addresses):
                    report.note(f"{error.message} Trying the next source.")
        if len(failures) == 1:
            raise failures[0]
        damaged = any(isinstance(error, IntegrityError) for error in failures)
        raise (IntegrityError if damaged else NetworkError)(
            f"None of the {len(failures)} sources of {self._wanted.id} provides {name}:\n"
            + "\n".join(f"  {error.message}" for error in failures)
        )

    def _from_cache(self, name: str, partial: Partial, report: Reporter) -> bool:
        """Return whether the file was still whole in the cache: from a pull for a device, or next to a damaged one."""
        folder = cached_path(self._wanted)
        if partial.size or not os.path.isfile(folder / name):
            return False
        try:
            FolderSource(folder).fetch(name, partial, report)
        except OutputError:
            raise
        except ZooError:
            return False
        return True


def _manifest(wanted: Checkpoint, partial: Partial) -> Manifest:
    """Return the verified zoo.json, which must list the very files that are pinned."""
    with open_regular(partial.path) as stream, reading(partial.path):
        content = stream.read(partial.entry.size)
    shown = f"{wanted.id}/{MANIFEST_NAME}"
    manifest = parse_manifest(content, shown)
    pinned = {name: entry for name, entry in wanted.files.items() if name != MANIFEST_NAME}
    differing = sorted(
        name for name in pinned.keys() | manifest.files.keys() if pinned.get(name) != manifest.files.get(name)
    )
    if differing:
        raise IntegrityError(f"{shown} and the registry {wanted.registry} disagree about {differing[0]}.")
    for key in ("architecture", "recipe", "fingerprint"):
        if getattr(wanted, key) != getattr(manifest, key):
            raise IntegrityError(f"{shown} and the registry {wanted.registry} disagree about the {key}.")
    return manifest


def _check_room(
    wanted: Checkpoint, names: frozenset[str], partials: dict[str, Partial], target: Path
) -> None:
    """Refuse what will not fit before fetching it."""
    cache = next(iter(partials.values())).path.parent
    needs = {cache: sum(wanted.files[name].size for name in names if name not in partials) + _SPARE}
    if _file_system(target.parent) != _file_system(cache):
        needs[target.parent] = sum(wanted.files[name].size for name in names) + _SPARE
    for folder, need in needs.items():
        room = shutil.disk_usage(_existing(folder)).free
        if need > room:
            raise OutputError(
                f"Cannot write {folder}: {wanted.id} needs {need / 1e6:,.1f} MB, and {room / 1e6:,.1f} MB are free.",
                hint="Free some space:  zoo cache prune --dry-run",
            )


def _install(
    target: Path, partials: dict[str, Partial], names: frozenset[str], *, replace: bool, subset: bool
) -> None:
    with atomic_folder(target, replace=replace) as folder:
        for name in sorted(names):
            partials[name].install(folder / name)
        open_artifact(folder, subset=subset)
    for partial in partials.values():
        partial.remove()


def _existing(folder: Path) -> Path:
    """Return the innermost of the folders around `folder` that exists."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())


def _file_system(folder: Path) -> int:
    return os.stat(_existing(folder)).st_dev
