"""Plugins: architectures, techniques, datasets, engines and devices, found by entry point and loaded by id."""

from __future__ import annotations

from zoo.plugins.discovery import GROUPS, Plugin
from zoo.plugins.loader import (
    OWN_FILE,
    architecture,
    dataset,
    describe_plugin,
    device,
    engine,
    find_plugins,
    load,
    load_plugin,
    make_technique,
    resolve_plugin,
    technique,
)

__all__ = [
    "GROUPS",
    "OWN_FILE",
    "Plugin",
    "architecture",
    "dataset",
    "describe_plugin",
    "device",
    "engine",
    "find_plugins",
    "load",
    "load_plugin",
    "make_technique",
    "resolve_plugin",
    "technique",
]
