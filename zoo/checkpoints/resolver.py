"""From what the user typed to an artifact: a folder, or a checkpoint that was pulled."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.artifacts.artifact import Artifact, open_artifact
from zoo.artifacts.manifest import MANIFEST_NAME
from zoo.errors import IntegrityError, UnknownIdError
from zoo.storage.atomic import sha256_of
from zoo.storage.cache_dir import cache_dir
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from zoo.checkpoints.records import Record


def locate_artifact(name: str) -> Artifact:
    """Open the artifact folder `name`, or the pulled checkpoint of that id.

    It may be one of which only what a device needs was fetched. Raises UnknownIdError if there is neither,
    IntegrityError if it is damaged.
    """
    path = Path(name)
    return open_artifact(path if path.exists() else pulled_folder(name), subset=True)


def pulled_folder(name: str) -> Path:
    """Where the checkpoint `name` lies in the cache: an id, or NAMESPACE/NAME@COMMIT.

    Of an id that only a registry named by hand lists, the one that was pulled last. The use is noted. Raises
    UnknownIdError if it is not there, IntegrityError if its manifest is not the pinned one.
    """
    from zoo.checkpoints.places import cached_path
    from zoo.checkpoints.records import distrust, note_use
    from zoo.registry import checkpoints

    known = checkpoints()
    if name in known:
        path, files = cached_path(known[name]), known[name].files
        if not os.path.isdir(path):
            raise UnknownIdError(
                f"The checkpoint '{name}' is not here yet.", hint=f"Fetch it:  zoo pull {name}"
            )
    else:
        record = _recorded(name, known)
        path, files = record.path, record.files
    # The manifest tells what the other files must be; only its pin tells what it must be itself.
    manifest = path / MANIFEST_NAME
    if not os.path.isfile(manifest) or sha256_of(manifest) != files[MANIFEST_NAME].sha256:
        distrust(path)
        raise IntegrityError(f"{manifest} is not the one that was pulled.", hint=f"Mend it:  zoo pull {name}")
    note_use(path)
    return path


def _recorded(name: str, known: Collection[str]) -> Record:
    """What is noted of the checkpoint `name`, of which no registry tells."""
    from zoo.checkpoints.records import all_records

    pulled = [
        each for each in all_records() if each.path.is_relative_to(cache_dir()) and os.path.isdir(each.path)
    ]
    found = [each for each in pulled if each.id == name and MANIFEST_NAME in each.files]
    if not found:
        raise UnknownIdError(
            f"No artifact folder or checkpoint is called '{name[:100]}'"
            f"{did_you_mean(name, {*known, *(each.id for each in pulled)})}",
            hint="See what there is:  zoo list checkpoints",
        )
    return max(found, key=lambda each: each.pulled)
