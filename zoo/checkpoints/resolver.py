"""From a name to an artifact: the one way for every command, recipe option and Python call.

The first of these that exists is used:

1. the artifact folder of that name, relative to the working directory or absolute;
2. the checkpoint of that id in the cache, or NAMESPACE/NAME@COMMIT of the Hub, once it was pulled;
3. the checkpoint of that id that is part of this installation.

An id that is only listed in a registry is refused with the `zoo pull` to type. A folder without a zoo.json is not an
artifact and hides no checkpoint. Checkpoints of the cache and of the installation are held to the same pins.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.artifacts.artifact import Artifact, open_artifact
from zoo.artifacts.manifest import MANIFEST_NAME
from zoo.errors import IntegrityError, OutputError, UnknownIdError
from zoo.storage.atomic import sha256_of
from zoo.storage.cache_dir import cache_dir
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from zoo.checkpoints.records import Record
    from zoo.contracts import Reporter
    from zoo.registry import Checkpoint


@dataclass(frozen=True)
class Location:
    """Where the artifact of a name is.

    Attributes:
        name: As it was typed.
        path: The artifact folder.
        origin: A folder of the user's, a pulled checkpoint in the cache, or one that is part of the installation.
        pinned: Whether a registry pins its bytes.
    """

    name: str
    path: Path
    origin: Literal["folder", "pulled", "shipped"]
    pinned: bool = False

    @property
    def remark(self) -> str:
        """Return a line that says where the artifact is from; "" for a folder of the user's."""
        if self.origin == "folder":
            return ""
        which = "the pulled checkpoint" if self.origin == "pulled" else "the checkpoint of this installation"
        ignored = f"; ignoring the folder {self.name}: it has no {MANIFEST_NAME}"
        return f"{self.name}: {which} in {self.path}{ignored if os.path.isdir(self.name) else ''}"


def locate_artifact(
    name: str, *, subset: bool = True, files: bool = False, reporter: Reporter | None = None
) -> Artifact:
    """Open the artifact called `name`; the module says in which order it is looked for.

    Args:
        name: A folder, the id of a checkpoint, or NAMESPACE/NAME@COMMIT.
        subset: Whether one of which only what a device needs was fetched will do.
        files: Whether `name` may be that of an ONNX file, as :mod:`zoo.checkpoints.foreign_files` says.
        reporter: Is given a note where the artifact is from, unless it is the folder that was named.

    Raises:
        UnknownIdError: Nothing is called so, or it is neither pulled nor part of this installation.
        IntegrityError: It is damaged, or its manifest is not the pinned one.
    """
    if files and ".onnx" in name.lower():
        from zoo.checkpoints.foreign_files import artifact_of_file

        foreign = artifact_of_file(name)
        if foreign is not None:
            return foreign
    found = find_location(name)
    if found is None:
        if os.path.lexists(name):
            return open_artifact(Path(name), subset=subset)  # says what is wrong with the folder or file
        raise _unknown(name)
    if reporter is not None and found.remark:
        reporter.note(found.remark)
    return dataclasses.replace(open_artifact(found.path, subset=subset), pinned=found.pinned)


def find_location(name: str) -> Location | None:
    """Look for `name` in the order that the module states, and note the use of a pulled checkpoint.

    Returns:
        The location; None if nothing is called so.

    Raises:
        UnknownIdError: A registry lists the id, but it has not been pulled.
        IntegrityError: A manifest is not the pinned one.
    """
    if os.path.lexists(os.path.join(name, MANIFEST_NAME)):
        return Location(name, Path(name), "folder")
    from zoo.registry import checkpoints

    known = checkpoints()
    if name not in known:
        record = next((each for each in _pulled_unlisted() if each.id == name), None)
        return None if record is None else Location(name, _checked_pull(name, record.path, record), "pulled")
    entry = known[name]
    if (path := _in_cache(entry)) is not None:
        return Location(name, _checked_pull(name, path, entry), "pulled", pinned=True)
    if (path := find_shipped(name)) is not None:
        return Location(name, path, "shipped", pinned=True)
    raise UnknownIdError(
        f"The checkpoint '{name}' has not been pulled yet.", hint=f"Pull it:  zoo pull {name}"
    )


def find_shipped(name: str) -> Path | None:
    """Return the folder of the checkpoint `name` if it is part of this installation, else None.

    Raises:
        IntegrityError: The folder is missing, or its manifest is not the one that the registry pins.
    """
    from zoo.extras import REINSTALL
    from zoo.registry import PACKAGE_SOURCE, checkpoints, shipped_folder
    from zoo.registry.registries import built_in

    entry = checkpoints().get(name)
    if entry is None or PACKAGE_SOURCE not in entry.sources or not built_in(entry):
        return None
    path = shipped_folder(name)
    if not _has_manifest(path, entry):
        raise IntegrityError(f"{path / MANIFEST_NAME} is not the one that the registry pins.", hint=REINSTALL)
    return path


def distrust_pulled(folder: Path) -> None:
    """Have the next pull read all files in `folder` again, because one of them is damaged."""
    from zoo.checkpoints.records import distrust

    distrust(folder)


# --------------------------------------------------------------------------------------------------- details


def _in_cache(entry: Checkpoint) -> Path | None:
    """The folder of a checkpoint that was pulled into the cache."""
    from zoo.checkpoints.places import cached_path

    try:
        path = cached_path(entry)
    except OutputError:  # a user without a home has no cache
        return None
    return path if os.path.isdir(path) else None


def _checked_pull(name: str, path: Path, pins: Checkpoint | Record) -> Path:
    """The folder itself, if its manifest is the pinned one; notes the use."""
    from zoo.checkpoints.records import note_use

    if not _has_manifest(path, pins):
        distrust_pulled(path)
        raise IntegrityError(
            f"{path / MANIFEST_NAME} is not the one that was pulled.", hint=f"Repair it:  zoo pull {name}"
        )
    note_use(path)
    return path


def _has_manifest(path: Path, pins: Checkpoint | Record) -> bool:
    """Whether the manifest is the pinned one. It states what the other files must be, but not what it must be."""
    manifest = path / MANIFEST_NAME
    return os.path.isfile(manifest) and sha256_of(manifest) == pins.files[MANIFEST_NAME].sha256


def _pulled_unlisted() -> list[Record]:
    """The records of folders in the cache, those pulled last first."""
    from zoo.checkpoints.records import all_records

    try:
        cache = cache_dir()
    except OutputError:
        return []
    found = [
        each
        for each in all_records()
        if each.path.is_relative_to(cache) and MANIFEST_NAME in each.files and os.path.isdir(each.path)
    ]
    return sorted(found, key=lambda each: each.pulled, reverse=True)


def _unknown(name: str) -> UnknownIdError:
    from zoo.registry import checkpoints

    known: Collection[str] = {*checkpoints(), *(each.id for each in _pulled_unlisted())}
    return UnknownIdError(
        f"No artifact folder or checkpoint is called '{name[:100]}'{did_you_mean(name, known)}",
        hint="List the checkpoints:  zoo list checkpoints",
    )
