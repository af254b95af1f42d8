"""For tests of the puller: a checkpoint on a Hub of its own, its registry, and processes that pull it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support import tiny
from support.loopback_hub import LoopbackHub
from zoo.artifacts import open_artifact
from zoo.artifacts.artifact import write_artifact
from zoo.download import Pulled, pull
from zoo.download.retry import RetryLimits
from zoo.registry import Checkpoint, entry_for, parse_registry

REPOSITORY = "tester/net"
#: So impatient that tests of failures take seconds, and patient enough for a machine with ten times as much to do.
QUICK = RetryLimits(
    timeout=2.0, window=2.0, slowest=20_000, attempts=3, most=8, backoff=0.001, longest_wait=1.0
)
#: One file of each kind that an artifact may hold, beside zoo.json.
EXTRAS = {
    "metrics.json": b'{"baseline": "tiny"}',
    "recipe.toml": b"# how it was made\n",
    "sample.png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}" + os.urandom(30_000),
}


@dataclass
class Notes:
    """A reporter that keeps what it is told."""

    notes: list[str] = field(default_factory=list)
    done: float = 0.0
    total: float | None = None

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        self.total, self.done = total, 0.0

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        self.done += amount

    def finish(self) -> None:
        pass


@dataclass
class World:
    """A Hub with one checkpoint called "small", the registry that pins it, and an empty cache."""

    hub: LoopbackHub
    root: Path
    files: dict[str, bytes]
    commit: str
    registry: Path
    known: Mapping[str, Checkpoint]

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def checkpoint(self) -> Checkpoint:
        return self.known["small"]

    def pull(self, name: str = "small", out: Path | None = None, **options: Any) -> Pulled:
        return pull(name, out, **{"known": self.known, "limits": QUICK, **options})

    def asked(self, name: str) -> int:
        """How often the Hub itself was asked for a file."""
        return len(self.hub.asked(f"*/resolve/*/{name}", host="hub"))

    def is_right(self, folder: Path) -> bool:
        return contents(folder) == self.files

    def assert_nothing_installed(self, out: Path | None = None) -> None:
        assert out is None or not out.exists()
        assert not (self.cache / "checkpoints").exists() or not list(
            (self.cache / "checkpoints").glob("*/[!.]*")
        )

    def assert_no_orphans(self) -> None:
        """Nothing lies in the cache but checkpoints and records."""
        left = [path for path in self.cache.rglob("*") if path.is_file() or path.name.startswith(".")]
        strays = [
            path
            for path in left
            if path.relative_to(self.cache).parts[0] not in ("checkpoints", "hub", "records")
        ]
        assert strays == []
        assert [path for path in left if path.name.startswith(".")] == []

    def start(self, code: str, **environment: str) -> subprocess.Popen[str]:
        """Python in another process, in which `known` is this world's registry and `QUICK` the limits."""
        prelude = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from zoo.download import pull\n"
            "from zoo.download.retry import RetryLimits\n"
            "from zoo.download.named_registry import load_registries\n"
            f"known = load_registries({str(self.registry)!r})\n"
            f"QUICK = {QUICK!r}\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", prelude + code],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def artifact_files(root: Path, extras: Mapping[str, bytes] = EXTRAS) -> dict[str, bytes]:
    """The files of an artifact with one file of each kind."""
    write_artifact(root / "made", tiny.manifest(), {**_network(), **extras})
    return contents(root / "made")


@functools.cache
def _network() -> Mapping[str, bytes]:
    """The files that every artifact has; making them once is enough."""
    with tempfile.TemporaryDirectory() as folder:
        made = contents(tiny.bayer_artifact(Path(folder, "made")).path)
    return {name: content for name, content in made.items() if name != "zoo.json"}


def registry_text(root: Path, *sources: str, name: str = "small", **options: Any) -> str:
    """A registry of the artifact at `root`/made."""
    return "format = 1\n\n" + entry_for(open_artifact(root / "made"), name, "a net", sources, **options)


def world(
    hub: LoopbackHub, root: Path, patch: pytest.MonkeyPatch, extras: Mapping[str, bytes] = EXTRAS
) -> World:
    """Put an artifact on the Hub, pin it, and make this process use both."""
    for name in (
        "HF_HUB_OFFLINE",
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        patch.delenv(name, raising=False)
    patch.setenv("HF_ENDPOINT", hub.url)
    patch.setenv("HF_TOKEN", hub.token)
    patch.setenv("HF_HUB_DISABLE_XET", "1")
    patch.setenv("ZOO_CACHE", str(root / "cache"))
    patch.setenv("ZOO_REGISTRY", "")
    files = artifact_files(root, extras)
    commit = hub.add_repo(REPOSITORY, files, tag="v1")
    registry = root / "small.toml"
    registry.write_text(registry_text(root, f"hf:{REPOSITORY}@{commit}", tag="v1"))
    known = parse_registry(registry.read_bytes(), str(registry))
    return World(hub, root, files, commit, registry, known)
