"""The registry: the published checkpoints, with the exact bytes each consists of (registry.toml)."""

from __future__ import annotations

from zoo.registry.entry import entry_for
from zoo.registry.installed import shipped_folder
from zoo.registry.registries import checkpoint, checkpoints, find_checkpoint, merge
from zoo.registry.registry_toml import FORMAT, PACKAGE_SOURCE, Checkpoint, parse_registry

__all__ = [
    "FORMAT",
    "PACKAGE_SOURCE",
    "Checkpoint",
    "checkpoint",
    "checkpoints",
    "entry_for",
    "find_checkpoint",
    "merge",
    "parse_registry",
    "shipped_folder",
]
