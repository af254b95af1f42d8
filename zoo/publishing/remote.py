"""What a repository of the Hub holds at a revision, and fetching it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.artifacts.manifest import CARD_NAME, LARGEST_MANIFEST, MANIFEST_NAME, parse_manifest
from zoo.errors import IntegrityError, NetworkError
from zoo.publishing.client import PATIENCE, status_of, translate_errors
from zoo.storage.atomic import read_bytes, sha256_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from zoo.contracts import Reporter
    from zoo.publishing.bundle import Bundle, UploadFile

_LARGEST_CARD = 1_000_000
#: What a repository may hold although nothing was published in it yet.
_INITIAL = frozenset({".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt"})


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it.

    Attributes:
        sha256: None for files that are not large objects.
    """

    size: int
    git_id: str
    sha256: str | None

    def holds(self, file: UploadFile) -> bool:
        """Return whether its content is that of `file`."""
        if self.size != file.entry.size:
            return False
        return self.sha256 == file.entry.sha256 if self.sha256 else self.git_id == file.git_id


@dataclass(frozen=True)
class RemoteRepository:
    """A repository at a revision.

    Attributes:
        commit: Its sha; "" if there is none yet.
    """

    commit: str
    private: bool = False
    files: Mapping[str, RemoteFile] = field(default_factory=dict)

    def changes(self, bundle: Bundle) -> list[UploadFile]:
        """Return the files of `bundle` that it lacks or holds with other content."""
        return [
            file
            for name, file in bundle.files.items()
            if name not in self.files or not self.files[name].holds(file)
        ]

    @property
    def foreign(self) -> bool:
        """Return whether it holds something other than an artifact."""
        return MANIFEST_NAME not in self.files and bool(self.files.keys() - _INITIAL)


def read_repository(api: HfApi, repository: str, revision: str = "main") -> RemoteRepository | None:
    """Return the content of a repository; None if none has that name, or the token may not see it."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    with translate_errors(f"looking at {repository}"):
        try:
            info = api.model_info(repository, revision=revision, files_metadata=True, timeout=PATIENCE)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None
        except RevisionNotFoundError:
            return RemoteRepository("")
        files = {
            each.rfilename: RemoteFile(
                each.size or 0, each.blob_id or "", each.lfs.sha256 if each.lfs else None
            )
            for each in info.siblings or ()
        }
        if not files or not all(file.git_id for file in files.values()):
            files = _listed(api, repository, info.sha or revision)
        return RemoteRepository(info.sha or "", bool(info.private), files)


def _listed(api: HfApi, repository: str, revision: str) -> dict[str, RemoteFile]:
    """Return the files of a revision from its tree, for servers whose description of it leaves them out."""
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        return {
            each.path: RemoteFile(each.size, each.blob_id, each.lfs.sha256 if each.lfs else None)
            for each in api.list_repo_tree(repository, revision=revision, recursive=True)
            if isinstance(each, RepoFile)
        }
    except EntryNotFoundError:  # an empty tree
        return {}


def read_tag(api: HfApi, repository: str, name: str) -> str | None:
    """Return the commit that a tag of a repository names, None if there is none of that name."""
    with translate_errors(f"reading the tags of {repository}"):
        try:
            refs = api.list_repo_refs(repository)
        except Exception as error:
            if status_of(error) not in (404, 405, 501):
                raise
            # A smaller server has no list of its tags; it still says what one of them names.
            return _commit_of(api, repository, name)
        return next((tag.target_commit for tag in refs.tags if tag.name == name), None)


def _commit_of(api: HfApi, repository: str, revision: str) -> str | None:
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        return api.model_info(repository, revision=revision, timeout=PATIENCE).sha
    except RevisionNotFoundError:
        return None


def stale_files(
    api: HfApi, repository: str, remote: RemoteRepository, bundle: Bundle, scratch: Path
) -> list[str]:
    """Return the files of the artifact that was published before and that the new one does not have.

    Files that no manifest lists stay: they belong to somebody else.
    """
    listed = remote.files.get(MANIFEST_NAME)
    if listed is None or listed.holds(bundle.files[MANIFEST_NAME]):
        return []
    try:
        content = read_bytes(
            _download(api, repository, MANIFEST_NAME, remote.commit, scratch), LARGEST_MANIFEST
        )
        before = parse_manifest(content, f"{MANIFEST_NAME} of {repository}").files
    except IntegrityError:  # a damaged one is replaced, and says nothing of other files
        return []
    return sorted(before.keys() & remote.files.keys() - bundle.files.keys())


def card_metadata(
    api: HfApi, repository: str, remote: RemoteRepository, scratch: Path
) -> Mapping[str, object]:
    """Return the front matter of a repository's card; empty if it has none that can be read."""
    listed = remote.files.get(CARD_NAME)
    if listed is None or listed.size > _LARGEST_CARD:
        return {}
    from huggingface_hub import metadata_load

    card = _download(api, repository, CARD_NAME, remote.commit, scratch)
    try:
        return metadata_load(card) or {}
    except Exception:  # whatever is wrong with its text, which the new card replaces
        return {}


def read_back(
    api: HfApi, repository: str, commit: str, bundle: Bundle, scratch: Path, report: Reporter
) -> Path:
    """Return a folder with every file as the Hub serves it at `commit`, each compared with what was published.

    Raises:
        IntegrityError: A file differs twice, or is missing.
    """
    report.start("read back", bundle.size, "B")
    folder = scratch / "artifact"
    for name, file in bundle.files.items():
        # What is damaged on its way is right the second time; what is damaged there is not.
        for _ in range(2):
            got = _download(api, repository, name, commit, scratch / "download")
            if right := got.stat().st_size == file.entry.size and sha256_of(got) == file.entry.sha256:
                break
        if not right:
            raise IntegrityError(
                f"{name} of {repository} at {commit} was read back with different content than was published.",
                hint="Run the same command again; nothing was tagged or registered.",
            )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        got.rename(folder / name)
        report.advance(file.entry.size)
    report.finish()
    return folder


def _download(api: HfApi, repository: str, name: str, commit: str, folder: Path) -> Path:
    from huggingface_hub.errors import EntryNotFoundError

    with translate_errors(f"reading {name} of {repository}"):
        try:
            found = api.hf_hub_download(
                repository, name, revision=commit, local_dir=folder, force_download=True
            )
        except EntryNotFoundError as error:
            if isinstance(error, FileNotFoundError):  # the client's "neither the Hub nor my cache"
                raise
            raise IntegrityError(
                f"{name} of {repository} is not there at {commit}.",
                hint="Does a .gitignore in the repository exclude it?",
            ) from None
    path = Path(found)
    if path.is_symlink() or not path.is_file():
        raise NetworkError(f"{name} of {repository} cannot be read back: the client returned no file.")
    return path
