"""Publishing from Python, as :mod:`zoo` offers it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zoo.publishing import publisher
from zoo.publishing.destination import PublishRequest

if TYPE_CHECKING:
    from zoo.artifacts import Artifact
    from zoo.contracts import Reporter
    from zoo.publishing.publisher import Published


class HoldsArtifact(Protocol):
    """Something made from an artifact or into one: a runner, or the result of a recipe."""

    @property
    def artifact(self) -> Artifact | Path:
        """Return the artifact, or its folder."""


def publish(
    artifact: str | os.PathLike[str] | HoldsArtifact,
    repository: str,
    *,
    identifier: str = "",
    tag: str = "",
    private: bool = False,
    message: str = "",
    summary: str = "",
    license: str | None = None,  # noqa: A002
    base_model: str | None = None,
    datasets: Sequence[str] | None = None,
    register: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> Published:
    """Publish an artifact as a repository of the Hub, in one commit that is read back and verified.

    Args:
        artifact: Its folder, the id of a checkpoint, or what :func:`zoo.load` and :func:`zoo.apply` return.
        repository: NAMESPACE/NAME.
        identifier: Id of its entry in registry.toml; "" makes it from NAME.
        tag: Name of this revision, such as "v1"; "" for none.
        private: Whether a new repository is private.
        message: Title of the commit; "" for the usual one.
        summary: For the registry entry.
        license: Of the weights, as the Hub names it; None keeps what the card there says, "" says nothing.
        base_model: NAMESPACE/NAME of what it was made from; None takes what is known.
        datasets: Of the Hub, that it was trained with; None keeps what the card there says.
        register: Registry file to put the entry into.
        dry_run: Only find out what would be done; needs neither token nor network.
        reporter: Is told of the progress.

    Raises:
        UsageError: A name is not one the Hub or the registry takes, or means something else there already.
        IntegrityError: The artifact is damaged, or comes back otherwise than it was sent.
        NetworkError: The Hub fails, refuses, or somebody else commits meanwhile.
        OutputError: The registry file cannot be written.
    """
    request = PublishRequest(
        artifact=_folder_of(artifact),
        repository=repository,
        identifier=identifier,
        tag=tag,
        private=private,
        message=message,
        summary=summary,
        license=license,
        base_model=base_model,
        datasets=None if datasets is None else tuple(datasets),
        register=None if register is None else Path(register),
        dry_run=dry_run,
    )
    return publisher.publish(request, reporter)


def _folder_of(artifact: str | os.PathLike[str] | HoldsArtifact) -> Path:
    if isinstance(artifact, (str, os.PathLike)):
        return Path(artifact)
    held = artifact.artifact
    return held if isinstance(held, Path) else held.path
