"""Plugins: architectures, techniques, tasks, datasets, engines and devices, found by entry point and loaded by id."""

from __future__ import annotations

from zoo.plugins.discovery import GROUPS, Plugin, PluginKind
from zoo.plugins.loader import (
    architecture,
    dataset,
    device,
    engine,
    load,
    load_plugin,
    make_technique,
    own_family,
    task,
    task_of,
    technique,
)
from zoo.plugins.lookup import find_plugins, resolve_plugin

__all__ = [
    "GROUPS",
    "Plugin",
    "PluginKind",
    "architecture",
    "dataset",
    "device",
    "engine",
    "find_plugins",
    "load",
    "load_plugin",
    "make_technique",
    "own_family",
    "resolve_plugin",
    "task",
    "task_of",
    "technique",
]
