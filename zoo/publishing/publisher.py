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
from zoo.checkpoints.resolver import locate_artifact
from zoo.contracts import Reporter, SilentReporter
from zoo.download import endpoint
from zoo.errors import NetworkError, UsageError
from zoo.extras import require
from zoo.publishing.bundle import Bundle, UploadFile, bundle_verified, make_bundle
from zoo.publishing.client import MissingTokenError, error_for, open_client, status_of, translate_errors
from zoo.publishing.destination import PublishRequest
from zoo.publishing.register import check_registry, register, registered, with_older_sources
from zoo.publishing.remote import (
    RemoteRepository,
    card_metadata,
    read_back,
    read_repository,
    read_tag,
    stale_files,
)
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

    Attributes:
        commit: Sha that holds the files; "" if a dry run would make one.
        created: Whether the repository is new.
        uploaded: Files that the commit added or changed.
        removed: Files that the commit removed.
        entry: The text for registry.toml; "" for a dry run.
        license: What the card names, "" if none.
        card: The text of the card.
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
    card: str = ""


def publish(request: PublishRequest, report: Reporter | None = None) -> Published:
    """Publish an artifact as `request` says; do only what is still to be done.

    With `dry_run` nothing is written, here or there. Without a token or a connection, a dry run does not know what the
    repository holds: it lists every file, and a note says so.

    Raises:
        IntegrityError: The artifact is damaged, or comes back otherwise than it was sent.
        NetworkError: The Hub fails, refuses, or somebody else commits meanwhile.
        UsageError: The repository, the tag or the registry means something else already.
        OutputError: The registry cannot be written.
    """
    for package in ("huggingface_hub", "tomlkit"):
        require(package, "Publishing", extra="hub")
    report = report or SilentReporter()
    artifact = locate_artifact(str(request.artifact), subset=False)
    if request.register is not None:
        check_registry(request.register, request.id)
    publication = request.publication(artifact, {})
    bundle = make_bundle(artifact, publication)
    try:
        with open_client(report) as api, scratch_folder(cache_dir() / "published") as scratch:
            remote = read_repository(api, request.repository)
            if remote is not None:
                kept = request.publication(artifact, card_metadata(api, request.repository, remote, scratch))
                if kept != publication:
                    publication, bundle = kept, bundle_verified(artifact, kept)
            done = _publish(api, request, remote, bundle, scratch, report)
    except (NetworkError, MissingTokenError) as error:
        if not request.dry_run:
            raise
        report.note(f"Not compared with what {request.repository} may hold. {error.message}")
        done = _summary(request, endpoint.redact(endpoint.endpoint()), bundle, list(bundle.files.values()))
    return dataclasses.replace(done, license=publication.license, card=bundle.card)


def _publish(
    api: HfApi,
    request: PublishRequest,
    remote: RemoteRepository | None,
    bundle: Bundle,
    scratch: Path,
    report: Reporter,
) -> Published:
    repository = request.repository
    created = remote is None
    if remote is not None:
        _check_repository(request, remote)
        remote = _tagged(api, request, bundle) or remote
    elif request.dry_run:
        remote = RemoteRepository("")
    else:
        remote = _create(api, request)
    changes = remote.changes(bundle)
    stale = stale_files(api, repository, remote, bundle, scratch)
    commit = remote.commit if not changes and not stale else ""
    entry = ""
    if not request.dry_run:
        commit = commit or _commit(api, request, remote, bundle, changes, stale, report)
        folder = read_back(api, repository, commit, bundle, scratch, report)
        if request.tag:
            _tag(api, repository, request.tag, commit)
        entry = _entry(request, folder, commit)
        if request.register is not None:
            register(request.register, request.id, entry)
    done = _summary(request, api.endpoint, bundle, changes)
    return dataclasses.replace(done, commit=commit, created=created, removed=tuple(stale), entry=entry)


# --------------------------------------------------------------------------------------------------- details


def _summary(request: PublishRequest, hub: str, bundle: Bundle, changes: list[UploadFile]) -> Published:
    """Return what is uploaded; the rest is that of an existing repository before a commit."""
    changed = tuple(file.name for file in changes)
    return Published(
        repository=request.repository,
        url=f"{hub}/{request.repository}",
        identifier=request.id,
        commit="",
        tag=request.tag,
        created=False,
        uploaded=changed,
        removed=(),
        unchanged=tuple(name for name in bundle.files if name not in changed),
        bytes=sum(file.entry.size for file in changes),
    )


def _check_repository(request: PublishRequest, remote: RemoteRepository) -> None:
    if remote.foreign:
        raise UsageError(
            f"{request.repository} holds something other than an artifact; it was not replaced.",
            hint="Name another repository, or a new one.",
        )
    if request.private and not remote.private:
        raise UsageError(
            f"{request.repository} is already public; --private is for new repositories.",
            hint="Name a new one, or change its visibility on its settings page first.",
        )


def _tagged(api: HfApi, request: PublishRequest, bundle: Bundle) -> RemoteRepository | None:
    """Return what the wanted tag names, if it exists. Raises UsageError if that is another version."""
    commit = read_tag(api, request.repository, request.tag) if request.tag else None
    remote = read_repository(api, request.repository, commit) if commit else None
    if remote is not None and remote.changes(bundle):
        raise UsageError(
            f"The tag {request.tag} of {request.repository} already names another version ({remote.commit[:12]}); "
            "tags are not moved.",
            hint="Choose another:  --revision-tag NAME",
        )
    return remote


def _create(api: HfApi, request: PublishRequest) -> RemoteRepository:
    with translate_errors(f"creating {request.repository}"):
        api.create_repo(request.repository, private=request.private, exist_ok=True)
    remote = read_repository(api, request.repository)
    if remote is None:
        raise NetworkError(
            f"{api.endpoint} created {request.repository}, but now says that it does not exist.",
            hint="Run the same command again.",
        )
    _check_repository(request, remote)  # it may have appeared meanwhile, with something in it
    return remote


def _commit(
    api: HfApi,
    request: PublishRequest,
    remote: RemoteRepository,
    bundle: Bundle,
    changes: list[UploadFile],
    stale: list[str],
    report: Reporter,
) -> str:
    """Upload what changed, commit all of it at once, and say the commit."""
    from huggingface_hub import CommitOperationDelete

    repository = request.repository
    message = request.message or f"Publish {request.id}{f' {request.tag}' if request.tag else ''}"
    with contextlib.ExitStack() as opened:
        report.start("upload", sum(file.entry.size for file in changes), "B")
        operations = upload(api, repository, changes, report, opened)
        operations += [CommitOperationDelete(name) for name in stale]
        report.finish()
        try:
            done = api.create_commit(
                repository, operations, commit_message=message, parent_commit=remote.commit or None
            )
            return done.oid
        except Exception as error:
            return _commit_after_all(api, repository, bundle, error)


def _commit_after_all(api: HfApi, repository: str, bundle: Bundle, error: Exception) -> str:
    """Return the commit, if it was made and only the answer was lost. Raises NetworkError if it was not."""
    if status_of(error) == 412:
        raise NetworkError(
            f"Somebody else committed to {repository} in the meantime; nothing of yours was committed.",
            hint="Review that commit, then run the same command again.",
        ) from None
    with contextlib.suppress(NetworkError):
        found = read_repository(api, repository)
        if found is not None and not found.changes(bundle):
            return found.commit
    raise error_for(error, f"committing to {repository}") from None


def _tag(api: HfApi, repository: str, name: str, commit: str) -> None:
    """Have a tag at the commit; one that is there already is left."""
    known = read_tag(api, repository, name)
    if known is None:
        with translate_errors(f"tagging {repository}"):
            api.create_tag(repository, tag=name, revision=commit, exist_ok=True)
        known = read_tag(api, repository, name)
    if known != commit:
        raise UsageError(
            f"{repository} holds your files at {commit}, but the tag {name} was set to something else in the meantime.",
            hint="Choose another:  --revision-tag NAME",
        )


def _entry(request: PublishRequest, folder: Path, commit: str) -> str:
    """Return the entry for registry.toml, made of what was read back."""
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
