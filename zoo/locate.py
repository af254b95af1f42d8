"""From what the user typed to an artifact: a folder, or a checkpoint that was pulled."""

from __future__ import annotations

from pathlib import Path

from zoo.artifacts.artifact import Artifact, open_artifact
from zoo.catalogue import checkpoint, checkpoints
from zoo.errors import UnknownIdError
from zoo.pull import cached_path
from zoo.suggest import did_you_mean


def locate_artifact(name: str) -> Artifact:
    """Open the artifact folder `name`, or the pulled checkpoint of that id.

    Raises UnknownIdError if there is neither, IntegrityError if it is damaged.
    """
    path = Path(name)
    if path.exists():
        return open_artifact(path)
    if name not in checkpoints():
        raise UnknownIdError(
            f"No artifact folder or checkpoint is called '{name}'{did_you_mean(name, checkpoints())}",
            hint="See what there is:  zoo list checkpoints",
        )
    cached = cached_path(checkpoint(name))
    if not cached.is_dir():
        raise UnknownIdError(f"The checkpoint '{name}' is not here yet.", hint=f"Fetch it:  zoo pull {name}")
    return open_artifact(cached)
