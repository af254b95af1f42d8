"""Opening artifacts without trusting them, and writing them atomically."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.artifacts.hub_config import config_text
from zoo.artifacts.manifest import (
    CONFIG_NAME,
    LARGEST_MANIFEST,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    needed_by_runner,
    parse_manifest,
)
from zoo.errors import IntegrityError, OutputError, UnknownIdError
from zoo.schema import parse_json
from zoo.storage.atomic import atomic_folder, check_folder_target, chunks, open_regular, read_bytes, reading

#: Bytes of a file that is read as a whole.
_LARGEST_IN_MEMORY = 1 << 36
_LARGEST_METRICS = 2 << 20
_DAMAGED = "Pull it again, or make it again; its contents cannot be trusted."


@dataclass(frozen=True)
class Artifact:
    """An artifact folder whose manifest was read and whose list of files is complete.

    The content of a file is compared with its sha256 each time it is read, before anything is done with it.

    Attributes:
        path: The folder.
        manifest: The content of zoo.json.
        absent: Files of the manifest that were not fetched, if it was opened as a runner's subset.
        pinned: Whether a registry pins its bytes, and whoever keeps that registry vouches for them.
    """

    path: Path
    manifest: Manifest
    absent: frozenset[str] = frozenset()
    pinned: bool = False

    def read(self, name: str, *, most: int = _LARGEST_IN_MEMORY) -> bytes:
        """Return the verified content of a file of at most `most` bytes; raise IntegrityError."""
        entry = self._entry(name)
        if entry.size > most:
            raise IntegrityError(f"{self.path / name} has {entry.size:,} bytes; the limit is {most:,}.")
        with open_regular(self.path / name) as stream, reading(self.path / name):
            # One byte more than there may be shows a file that grew. A buffer of the stated size would be set
            # aside whatever the file holds.
            content = stream.read(min(entry.size, os.fstat(stream.fileno()).st_size) + 1)
        self._compare(name, len(content), hashlib.sha256(content).hexdigest())
        return content

    def verify(self) -> None:
        """Check every file that is there, reading it in pieces.

        Raises:
            IntegrityError: A file was altered; the message names the first.
        """
        for name, entry in self.manifest.files.items():
            if name in self.absent:
                continue
            digest, size = hashlib.sha256(), 0
            with open_regular(self.path / name) as stream, reading(self.path / name):
                for chunk in chunks(stream):
                    digest.update(chunk)
                    size += len(chunk)
                    if size > entry.size:
                        break
            self._compare(name, size, digest.hexdigest())

    def metrics(self) -> dict[str, Any]:
        """Return the content of metrics.json, empty if there is none; raise IntegrityError."""
        if "metrics.json" not in self.manifest.files or "metrics.json" in self.absent:
            return {}
        source = str(self.path / "metrics.json")
        value = parse_json(self.read("metrics.json", most=_LARGEST_METRICS), source, error=IntegrityError)
        if not isinstance(value, dict):
            raise IntegrityError(f"{source} must be a table of keys and values.")
        return value

    def _entry(self, name: str) -> FileEntry:
        if name in self.absent:
            raise IntegrityError(
                f"{self.path} holds only what a device needs, without {name}.",
                hint="Fetch all of it: zoo pull without --device.",
            )
        try:
            return self.manifest.files[name]
        except KeyError:
            raise IntegrityError(f"The artifact {self.path} has no {name}.") from None

    def _compare(self, name: str, size: int, sha256: str) -> None:
        entry = self._entry(name)
        if size != entry.size:
            relation = "longer" if size > entry.size else "shorter"
            raise IntegrityError(
                f"{self.path / name} is {relation} than the {entry.size:,} bytes its manifest lists.",
                hint=_DAMAGED,
            )
        if sha256 != entry.sha256:
            raise IntegrityError(
                f"{self.path / name} is not the file its manifest lists: "
                f"sha256 is {sha256[:16]}..., not {entry.sha256[:16]}...",
                hint=_DAMAGED,
            )


def open_artifact(path: str | os.PathLike[str], *, subset: bool = False) -> Artifact:
    """Read the manifest and compare the list of files; the files themselves are verified when they are read.

    Args:
        path: The artifact's folder.
        subset: Whether files that no device needs (:func:`zoo.artifacts.manifest.needed_by_runner`) may be
            missing, as after ``zoo pull --device``.

    Raises:
        UnknownIdError: `path` is not an artifact folder.
        IntegrityError: A file is missing, surplus or a link, the manifest is damaged, or its format is newer.
    """
    path = Path(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UnknownIdError(f"{path} {what}; an artifact is a folder with a {MANIFEST_NAME}.")
    source = path / MANIFEST_NAME
    if not os.path.lexists(source):
        raise UnknownIdError(f"{path} is not an artifact: it has no {MANIFEST_NAME}.")
    if source.is_symlink():
        raise IntegrityError(f"{source} is a symbolic link; an artifact may contain only regular files.")
    content = read_bytes(source, LARGEST_MANIFEST, error=IntegrityError)
    manifest = parse_manifest(content, str(source))
    found = _files_in(path)
    files = {*manifest.files, MANIFEST_NAME}
    folders = {f"{parent.as_posix()}/" for name in files for parent in PurePosixPath(name).parents[:-1]}
    listed = files | folders
    absent = frozenset(files - found)
    if missing := sorted(absent & needed_by_runner(manifest) if subset else absent):
        raise IntegrityError(f"{path / missing[0]} is missing; the manifest lists it.", hint=_DAMAGED)
    if surplus := sorted(found - listed):
        raise IntegrityError(
            f"{path / surplus[0]} does not belong to the artifact: its manifest does not list it.",
            hint="Remove it if it is yours.",
        )
    return Artifact(path, manifest, absent)


def write_artifact(
    target: Path, manifest: Manifest, contents: Mapping[str, bytes], *, replace: bool = False
) -> Artifact:
    """Write an artifact folder that appears whole or not at all.

    Args:
        target: The folder to make.
        manifest: The manifest; its list of files is made here.
        contents: The bytes of each file, by name. The config.json that the Hub counts downloads by is made here.
        replace: Whether an existing artifact is replaced, in one step. Anything else that exists is refused.

    Raises:
        OutputError: The folder exists or cannot be written.
    """
    check_artifact_target(target, replace=replace)
    contents = {**contents, CONFIG_NAME: config_text(manifest).encode(errors="surrogatepass")}
    entries = {
        name: FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        for name, content in sorted(contents.items())
    }
    manifest = dataclasses.replace(manifest, files=entries)
    text = manifest.to_json().encode(errors="surrogatepass")  # such a name is refused below
    # What could not be opened again must not be written either.
    manifest = parse_manifest(text, MANIFEST_NAME)
    with atomic_folder(target, replace=replace) as folder:
        for name, content in contents.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        (folder / MANIFEST_NAME).write_bytes(text)
    return Artifact(target, manifest)


def check_artifact_target(target: Path, *, replace: bool = False) -> None:
    """Check that :func:`write_artifact` would accept `target`; call it before long work.

    Raises:
        OutputError: The target would be refused.
    """
    check_folder_target(target, replace=replace)
    if replace and target.is_dir() and any(target.iterdir()) and not (target / MANIFEST_NAME).is_file():
        raise OutputError(
            f"{target} exists and is not an artifact, so it is not replaced.",
            hint="Name another folder with --out.",
        )


def _files_in(folder: Path) -> set[str]:
    """Relative names of all that is in a folder, those of folders with a slash behind.

    Raises IntegrityError for links, pipes and devices.
    """
    found: set[str] = set()
    pending = [folder]
    with reading(folder):
        while pending:
            for entry in os.scandir(pending.pop()):
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    pending.append(Path(entry.path))
                    found.add(f"{Path(entry.path).relative_to(folder).as_posix()}/")
                elif stat.S_ISREG(mode):
                    found.add(Path(entry.path).relative_to(folder).as_posix())
                else:
                    what = "a symbolic link" if stat.S_ISLNK(mode) else "a device or a pipe"
                    raise IntegrityError(
                        f"{entry.path} is {what}; an artifact may contain only regular files."
                    )
    return found
