"""An installation of its own for a test: a registry.toml with checkpoints beside it, and a cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo import registry
from zoo.artifacts import Artifact
from zoo.registry import installed


def install(monkeypatch: pytest.MonkeyPatch, root: Path, *artifacts: Artifact) -> Path:
    """Make `artifacts` the checkpoints of this installation, by the names of their folders; its folder."""
    package = root / "zoo"
    (package / "checkpoints").mkdir(parents=True)
    entries = []
    for artifact in artifacts:
        name = artifact.path.name
        entries.append(registry.entry_for(artifact, name, f"the small {name}"))
        artifact.path.rename(package / "checkpoints" / name)
    (package / "registry.toml").write_text("format = 1\n\n" + "\n".join(entries))
    monkeypatch.setattr(installed, "PACKAGE", package)
    monkeypatch.setenv("ZOO_CACHE", str(root / "cache"))
    registry.checkpoints.cache_clear()
    return package
