"""What the loopback Hub keeps, in memory: repositories with commits, branches, tags and large objects."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch

#: Files of these names are kept as large objects (LFS), as in the .gitattributes of a new repository.
LARGE_NAMES = ("*.onnx", "*.safetensors", "*.bin", "*.pt", "*.pkl", "*.zip", "*.gz")
LARGE_SIZE = 10 << 20
GITATTRIBUTES = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE_NAMES).encode()
#: The parent of the first commit.
NO_COMMIT = "0" * 40


@dataclass(frozen=True)
class Blob:
    """The content of one file and whether it is kept as a large object."""

    content: bytes
    large: bool

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @functools.cached_property
    def git_id(self) -> str:
        """What git calls the file; for a large object, its pointer."""
        stored = self._pointer() if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        """What a client compares a copy with: sha256 of a large object, git's id otherwise."""
        return self.sha256 if self.large else self.git_id

    def entry(self, path: str) -> dict[str, object]:
        """The file as a tree listing shows it."""
        shown: dict[str, object] = {
            "type": "file",
            "oid": self.git_id,
            "size": len(self.content),
            "path": path,
        }
        if self.large:
            pointer = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self._pointer())}
            shown["lfs"] = pointer
        return shown

    def _pointer(self) -> bytes:
        text = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
        return text.format(self.sha256, len(self.content)).encode()


@dataclass(frozen=True)
class Commit:
    """A state of all files."""

    sha: str
    parent: str
    title: str
    files: Mapping[str, Blob]


@dataclass
class Repo:
    """A model repository. Nothing in it is ever rewritten but branches and tags."""

    id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The commit that the branch main is at."""
        return self.branches["main"]

    def add(
        self, title: str, files: Mapping[str, Blob], *, gone: Iterable[str] = (), branch: str = "main"
    ) -> str:
        """A commit on a branch that adds or replaces `files` and removes `gone`; its sha."""
        parent = self.branches.get(branch, NO_COMMIT)
        before = self.commits[parent].files if parent in self.commits else {}
        after = {name: blob for name, blob in before.items() if name not in set(gone)} | dict(files)
        listing = "".join(f"{blob.git_id} {name}\n" for name, blob in sorted(after.items()))
        sha = hashlib.sha1(f"{self.id} {parent} {len(self.commits)} {title}\n{listing}".encode()).hexdigest()
        self.commits[sha] = Commit(sha, parent, title, after)
        self.branches[branch] = sha
        return sha

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a sha."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        return self.commits.get(self.branches.get(name) or self.tags.get(name) or revision)

    def history(self, branch: str = "main") -> list[Commit]:
        """The commits of a branch, the newest first."""
        found, sha = [], self.branches.get(branch, NO_COMMIT)
        while sha in self.commits:
            found.append(self.commits[sha])
            sha = self.commits[sha].parent
        return found


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether a file is to be uploaded as a large object."""
    named = any(fnmatch(path.rpartition("/")[2], name) for name in LARGE_NAMES)
    return size > 0 and (named or size >= LARGE_SIZE or b"\0" in sample)


def blob_of(path: str, content: bytes) -> Blob:
    """A file as it would be kept after an upload."""
    return Blob(content, is_large(path, len(content), content[:512]))


def new_repo(repo_id: str, private: bool, gated: bool) -> Repo:
    """A repository as it is just after its creation."""
    repo = Repo(repo_id, private, gated)
    repo.add("initial commit", {".gitattributes": Blob(GITATTRIBUTES, False)})
    return repo
