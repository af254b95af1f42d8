"""What is to be published where, checked before anything is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.artifacts import Artifact
from zoo.artifacts.metadata import Publication
from zoo.download.endpoint import redact
from zoo.errors import UsageError
from zoo.registry import checkpoints
from zoo.registry.registry_toml import ID, TAG
from zoo.registry.sources import REPOSITORY, hub_address

_LICENSE = r"[a-z0-9][a-z0-9.+-]{0,49}"
_LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class PublishRequest:
    """What ``zoo publish`` was asked for.

    For the card, `license`, `base_model` and `datasets` are named as on the Hub: None keeps what the card
    there says, "" and () remove it.

    Attributes:
        repository: NAMESPACE/NAME.
        identifier: Id of its entry in registry.toml, "" to make it from NAME.
        tag: Name of this revision, "" for none.
        message: Title of the commit, "" for the usual one.
        base_model: NAMESPACE/NAME.
        register: File to put the entry into, None to leave that.
    """

    artifact: Path
    repository: str
    identifier: str = ""
    tag: str = ""
    private: bool = False
    message: str = ""
    summary: str = ""
    license: str | None = None
    base_model: str | None = None
    datasets: tuple[str, ...] | None = None
    register: Path | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError naming what the Hub or the registry would not take."""
        for repository in (self.repository, *filter(None, [self.base_model]), *(self.datasets or ())):
            if not _names_a_repository(repository):
                raise UsageError(
                    f"{redact(ascii(repository)[:120])} is not a repository of the Hub.",
                    hint="Its form is NAMESPACE/NAME, such as your-name/lighter-unet-int8",
                )
        if self.tag and not re.fullmatch(TAG, self.tag):
            raise UsageError(
                f"{ascii(self.tag)[:120]} is not a valid name for a revision.",
                hint="For example:  --revision-tag v1",
            )
        if re.fullmatch(r"[0-9a-f]{40}|main", self.tag):
            raise UsageError(
                f"The tag {self.tag} could be mistaken for a commit or a branch; choose another."
            )
        if not re.fullmatch(ID, self.id):
            raise UsageError(
                f"{ascii(self.id)[:120]} is not a valid id for registry.toml.",
                hint="Choose one of a-z, 0-9 and hyphens:  --id NAME",
            )
        if self.license and not re.fullmatch(_LICENSE, self.license):
            raise UsageError(
                f"{ascii(self.license)[:120]} is not a license identifier of the Hub.",
                hint="For example apache-2.0 or mit; see https://huggingface.co/docs/hub/repositories-licenses",
            )
        for what, text in (("commit message", self.message), ("summary", self.summary)):
            if not text.isprintable() or len(text) > _LONGEST_MESSAGE:
                raise UsageError(f"The {what} must be one line of at most {_LONGEST_MESSAGE} characters.")

    @property
    def id(self) -> str:
        """Return the id of its entry in registry.toml."""
        return self.identifier or re.sub(r"[^a-z0-9-]", "-", self.repository.partition("/")[2].lower())

    def publication(self, artifact: Artifact, card: Mapping[str, object]) -> Publication:
        """Return the publication details for the card; `card` is the metadata of the existing card, or empty."""
        base_model = self.base_model
        if base_model is None:
            base_model = _published_start(artifact, self.repository) or _kept(card.get("base_model"))
        datasets = self.datasets
        if datasets is None:
            told = card.get("datasets")
            datasets = tuple(filter(None, map(_kept, told))) if isinstance(told, list) else ()
        license_ = self.license
        if license_ is None:
            told = card.get("license")
            license_ = told if isinstance(told, str) and re.fullmatch(_LICENSE, told) else ""
        return Publication(self.repository, self.id, license_, base_model, datasets)


def _names_a_repository(name: str) -> bool:
    return bool(re.fullmatch(REPOSITORY, name)) and "--" not in name and ".." not in name


def _kept(name: object) -> str:
    """Return a repository that a card names, "" if that is none."""
    return name if isinstance(name, str) and _names_a_repository(name) else ""


def _published_start(artifact: Artifact, own: str) -> str:
    """Return the repository of the checkpoint that the artifact was started from; "" if it is not published."""
    training = artifact.metrics().get("training")
    label = training.get("starting_weights") if isinstance(training, dict) else None
    entry = checkpoints().get(label) if isinstance(label, str) else None
    addresses = [hub_address(source) for source in entry.sources] if entry else []
    return next((each.repository for each in addresses if each and each.repository != own), "")
