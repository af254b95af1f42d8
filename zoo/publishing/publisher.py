"""Publishing an artifact: one commit, read back and verified, then a tag and an entry for registry.toml.

Killed anywhere, the repository is as it was or has the whole commit; doing it again finds out which, and goes on
from there. A tag names only what was read back, and is never moved.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.artifacts import open_artifact
from zoo.contracts import Reporter, SilentReporter
from zoo.errors import NetworkError, UsageError
from zoo.publishing.bundle import Parcel, Piece, packed, parcel
from zoo.publishing.client import client, failure, status_of, talking
from zoo.publishing.destination import Request
from zoo.publishing.register import check_registry, register, registered, with_older_sources
from zoo.publishing.remote import Remote, card_metadata, look, read_back, stale_files, tagged
from zoo.publishing.upload import upload
from zoo.registry import entry_for, parse_registry
from zoo.registry.registry_toml import FORMAT
from zoo.storage.atomic import scratch_folder
from zoo.storage.cache_dir import cache_dir

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Published:
    """What was done, or with a dry run would be.

    commit: sha that holds the files; "" if a dry run would make one. created: the repository is new. uploaded,
    removed: files that changed with the commit. entry: the text for registry.toml; "" for a dry run. license: what
    the card names, "" if none.
    """

    repository: str
    url: str
    identifier: str
    commit: str
    tag: str
    created: bool
    uploaded: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    bytes: int
    entry: str = ""
    license: str = ""


def publish(request: Request, report: Reporter | None = None) -> Published:
    """Publish an artifact as `request` says; do only what is still to be done.

    With `dry_run` nothing is written, here or there. Raises IntegrityError if the artifact is damaged or comes back
    otherwise than it was sent, NetworkError if the Hub fails, refuses, or somebody else commits meanwhile,
    UsageError if the repository, the tag or the registry means something else already, OutputError.
    """
    report = report or SilentReporter()
    artifact = open_artifact(request.artifact)
    if request.register is not None:
        check_registry(request.register, request.id)
    publication = request.publication(artifact, {})
    goods = parcel(artifact, publication)
    with client(report) as api, scratch_folder(cache_dir() / "published") as scratch:
        remote = look(api, request.repository)
        if remote is not None:
            kept = request.publication(artifact, card_metadata(api, request.repository, remote, scratch))
            if kept != publication:
                publication, goods = kept, packed(artifact, kept)
        done = _publish(api, request, remote, goods, scratch, report)
        return dataclasses.replace(done, license=publication.license)


def _publish(
    api: HfApi, request: Request, remote: Remote | None, goods: Parcel, scratch: Path, report: Reporter
) -> Published:
    repository = request.repository
    created = remote is None
    if remote is not None:
        _check_repository(request, remote)
        remote = _tagged(api, request, goods) or remote
    elif request.dry_run:
        remote = Remote("")
    else:
        remote = _create(api, request)
    changes = remote.changes(goods)
    stale = stale_files(api, repository, remote, goods, scratch)
    commit = remote.commit if not changes and not stale else ""
    entry = ""
    if not request.dry_run:
        commit = commit or _commit(api, request, remote, goods, changes, stale, report)
        folder = read_back(api, repository, commit, goods, scratch, report)
        if request.tag:
            _tag(api, repository, request.tag, commit)
        entry = _entry(request, folder, commit)
        if request.register is not None:
            register(request.register, request.id, entry)
    changed = tuple(piece.name for piece in changes)
    return Published(
        repository=repository,
        url=f"{api.endpoint}/{repository}",
        identifier=request.id,
        commit=commit,
        tag=request.tag,
        created=created,
        uploaded=changed,
        removed=tuple(stale),
        unchanged=tuple(name for name in goods.pieces if name not in changed),
        bytes=sum(piece.entry.size for piece in changes),
        entry=entry,
    )


# --------------------------------------------------------------------------------------------------- details


def _check_repository(request: Request, remote: Remote) -> None:
    if remote.foreign:
        raise UsageError(
            f"{request.repository} holds something that is no artifact; nothing was published over it.",
            hint="Name another repository, or a new one.",
        )
    if request.private and not remote.private:
        raise UsageError(
            f"{request.repository} is public already; --private is for new repositories.",
            hint="Name a new one, or change its visibility on its settings page first.",
        )


def _tagged(api: HfApi, request: Request, goods: Parcel) -> Remote | None:
    """What the wanted tag names, if it exists. Raises UsageError if that is another version."""
    commit = tagged(api, request.repository, request.tag) if request.tag else None
    remote = look(api, request.repository, commit) if commit else None
    if remote is not None and remote.changes(goods):
        raise UsageError(
            f"The tag {request.tag} of {request.repository} names another version ({remote.commit[:12]}); "
            "tags are not moved.",
            hint="Choose another:  --revision-tag NAME",
        )
    return remote


def _create(api: HfApi, request: Request) -> Remote:
    with talking(f"creating {request.repository}"):
        api.create_repo(request.repository, private=request.private, exist_ok=True)
    remote = look(api, request.repository)
    if remote is None:
        raise NetworkError(
            f"{api.endpoint} created {request.repository}, and now says that it is not there.",
            hint="Run the same command again.",
        )
    _check_repository(request, remote)  # it may have appeared meanwhile, with something in it
    return remote


def _commit(
    api: HfApi,
    request: Request,
    remote: Remote,
    goods: Parcel,
    changes: list[Piece],
    stale: list[str],
    report: Reporter,
) -> str:
    """Upload what changed, commit all of it at once, and say the commit."""
    from huggingface_hub import CommitOperationDelete

    repository = request.repository
    message = request.message or f"Publish {request.id}{f' {request.tag}' if request.tag else ''}"
    with contextlib.ExitStack() as opened:
        report.start("upload", sum(piece.entry.size for piece in changes), "B")
        operations = upload(api, repository, changes, report, opened)
        operations += [CommitOperationDelete(name) for name in stale]
        report.finish()
        try:
            done = api.create_commit(
                repository, operations, commit_message=message, parent_commit=remote.commit or None
            )
            return done.oid
        except Exception as error:
            return _commit_after_all(api, repository, goods, error)


def _commit_after_all(api: HfApi, repository: str, goods: Parcel, error: Exception) -> str:
    """The commit, if it was made and only the answer was lost. Raises NetworkError if it was not."""
    if status_of(error) == 412:
        raise NetworkError(
            f"Somebody else committed to {repository} meanwhile; nothing of yours was committed.",
            hint="Look at what they did, then run the same command again.",
        ) from None
    with contextlib.suppress(NetworkError):
        found = look(api, repository)
        if found is not None and not found.changes(goods):
            return found.commit
    raise failure(error, f"committing to {repository}") from None


def _tag(api: HfApi, repository: str, name: str, commit: str) -> None:
    """Have a tag at the commit; one that is there already is left."""
    known = tagged(api, repository, name)
    if known is None:
        with talking(f"tagging {repository}"):
            api.create_tag(repository, tag=name, revision=commit, exist_ok=True)
        known = tagged(api, repository, name)
    if known != commit:
        raise UsageError(
            f"{repository} holds your files at {commit}, but the tag {name} was set to something else meanwhile.",
            hint="Choose another:  --revision-tag NAME",
        )


def _entry(request: Request, folder: Path, commit: str) -> str:
    """The entry for registry.toml, made of what was read back."""
    artifact = open_artifact(folder)
    manifest = artifact.manifest
    summary = request.summary or ("" if manifest.recipe else f"{manifest.architecture} without compression")
    source = f"hf:{request.repository}@{commit}"
    text = entry_for(artifact, request.id, summary, (source,), tag=request.tag)
    if request.register is None:
        return text
    new = parse_registry(f"format = {FORMAT}\n{text}".encode(), "the entry")[request.id]
    sources = with_older_sources(registered(request.register).get(request.id), new)
    return entry_for(artifact, request.id, summary, sources, tag=request.tag)
