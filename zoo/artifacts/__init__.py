"""Artifacts: folders with an exported network, its weights, and what is needed to trust and to run them."""

from __future__ import annotations

from zoo.artifacts.artifact import Artifact, open_artifact, write_artifact
from zoo.artifacts.manifest import FORMAT, FileEntry, GoldenCheck, Manifest

__all__ = [
    "FORMAT",
    "Artifact",
    "FileEntry",
    "GoldenCheck",
    "Manifest",
    "open_artifact",
    "write_artifact",
]
