"""What the user asks for: NAME, NAME@REVISION, or NAMESPACE/NAME@COMMIT of the Hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from zoo.artifacts import FileEntry
from zoo.artifacts.manifest import MANIFEST_NAME, parse_manifest
from zoo.errors import UnknownIdError, UsageError
from zoo.registry import Checkpoint, find_checkpoint
from zoo.registry.registries import built_in
from zoo.registry.sources import COMMIT, REPOSITORY, HubAddress, hub_address
from zoo.suggest import did_you_mean

_SHORTEST_DIGEST = 8


@dataclass(frozen=True)
class MutableRevision:
    """A branch or a tag of a repository of the Hub, which may mean other bytes tomorrow."""

    repository: str
    revision: str


def resolve_request(name: str, known: Mapping[str, Checkpoint]) -> Checkpoint | HubAddress | MutableRevision:
    """Return what `name` stands for: an entry of a registry, or something on the Hub that no registry lists.

    Raises:
        UnknownIdError: The name is unknown.
        UsageError: The registry pins another revision.
    """
    plain, at, revision = name.partition("@")
    if "/" in plain:
        if not re.fullmatch(REPOSITORY, plain):
            raise UnknownIdError(
                f"'{name[:100]}' is neither a checkpoint id nor NAMESPACE/NAME@COMMIT of the Hub.",
                hint="List the checkpoints:  zoo list checkpoints",
            )
        if not re.fullmatch(COMMIT, revision):
            return MutableRevision(plain, revision or "main")
        address = HubAddress(plain, revision)
        return next((each for each in known.values() if address in _addresses(each)), address)
    entry = find_checkpoint(plain, known)
    if at and not _is_revision(entry, revision):
        raise UsageError(
            f"The registry {entry.registry} pins '{plain}' at {_revisions(entry)}, not at '{revision[:100]}'.",
            hint=f"Pull the pinned one:  zoo pull {plain}",
        )
    return entry


def checkpoint_at(address: HubAddress, content: bytes) -> Checkpoint:
    """Return the checkpoint at `address` whose zoo.json is `content`.

    Raises:
        IntegrityError: The manifest is damaged.
    """
    shown = f"{address.repository}@{address.commit}"
    manifest = parse_manifest(content, f"{shown}/{MANIFEST_NAME}")
    own = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
    return Checkpoint(
        id=shown,
        summary="",
        architecture=manifest.architecture,
        recipe=manifest.recipe,
        fingerprint=manifest.fingerprint,
        sources=(f"hf:{shown}",),
        files={MANIFEST_NAME: own, **manifest.files},
    )


def mutable_revision_error(moving: MutableRevision, commit: str | None) -> UsageError:
    """Return the error for a branch or tag, which is never pulled; `commit` is what it names now, if known."""
    shown = f"{moving.repository}@{moving.revision}"
    if commit is None:
        return UsageError(
            f"{shown} is not a commit: a branch or a tag can move.",
            hint=f"Name the commit, in forty hexadecimal digits:  zoo pull {moving.repository}@COMMIT",
        )
    return UsageError(
        f"{shown} is a branch or a tag, which can move; it currently points to commit {commit}.",
        hint=f"Pull that commit:  zoo pull {moving.repository}@{commit}",
    )


def provenance_note(wanted: Checkpoint, known: Mapping[str, Checkpoint]) -> str | None:
    """Return a note for the user about a checkpoint that the installed registry does not list."""
    own = [each for each in known.values() if built_in(each)]
    if wanted.pinned and built_in(wanted):
        return None
    where = f"from the registry {wanted.registry}" if wanted.pinned else "unpinned: no registry lists it"
    plain = wanted.id.partition("@")[0].rpartition("/")[2]
    ids = [each.id for each in own]
    like = f"; it is not the built-in '{plain}'." if plain in ids else did_you_mean(plain, ids)
    return f"{wanted.id} is {where}{like or '.'}"


def revision_url(endpoint: str, moving: MutableRevision) -> str:
    """Return the URL at which a Hub states the commit of a branch or a tag."""
    return f"{endpoint}/api/models/{moving.repository}/revision/{quote(moving.revision, safe='')}"


def _addresses(entry: Checkpoint) -> list[HubAddress]:
    return [address for source in entry.sources if (address := hub_address(source))]


def _is_revision(entry: Checkpoint, revision: str) -> bool:
    commits = [address.commit for address in _addresses(entry)]
    long_enough = len(revision) >= _SHORTEST_DIGEST
    return (
        (revision != "" and revision == entry.tag)
        or revision in commits
        or (long_enough and entry.digest.startswith(revision))
    )


def _revisions(entry: Checkpoint) -> str:
    """Return all names of the pinned revision."""
    commits = [f"commit {address.commit}" for address in _addresses(entry)]
    tag = [f"tag '{entry.tag}'"] if entry.tag else []
    return ", ".join([*tag, *commits, f"digest {entry.digest[:16]}"])
