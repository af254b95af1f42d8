"""From what the user typed to an artifact: a folder, or a checkpoint that was pulled."""

from __future__ import annotations

from pathlib import Path

from zoo.artifacts.artifact import Artifact, open_artifact
from zoo.cache import cache_dir
from zoo.catalogue import checkpoints
from zoo.errors import UnknownIdError
from zoo.pull import cached_path
from zoo.pull.records import all_records, note_use
from zoo.suggest import did_you_mean


def locate_artifact(name: str) -> Artifact:
    """Open the artifact folder `name`, or the pulled checkpoint of that id.

    It may be one of which only what a device needs was fetched. Raises UnknownIdError if there is neither,
    IntegrityError if it is damaged.
    """
    path = Path(name)
    if not path.exists():
        path = pulled_folder(name)
        note_use(path)
    return open_artifact(path, subset=True)


def pulled_folder(name: str) -> Path:
    """Where the checkpoint `name` lies in the cache: an id, or NAMESPACE/NAME@COMMIT.

    Of an id that only a registry named by hand lists, the one that was pulled last. Raises UnknownIdError.
    """
    known = checkpoints()
    if name in known:
        path = cached_path(known[name])
        if path.is_dir():
            return path
        raise UnknownIdError(f"The checkpoint '{name}' is not here yet.", hint=f"Fetch it:  zoo pull {name}")
    pulled = {
        each.path: each
        for each in all_records()
        if each.path.is_relative_to(cache_dir()) and each.path.is_dir()
    }
    found = [each for each in pulled.values() if each.id == name]
    if found:
        return max(found, key=lambda each: each.pulled).path
    names = {*known, *(each.id for each in pulled.values())}
    raise UnknownIdError(
        f"No artifact folder or checkpoint is called '{name[:100]}'{did_you_mean(name, names)}",
        hint="See what there is:  zoo list checkpoints",
    )
