"""The ids of what is installed; no plugin is imported."""

from __future__ import annotations

from collections import Counter

from zoo.plugins.discovery import PluginKind
from zoo.plugins.lookup import find_plugins


def list_architectures() -> list[str]:
    """Return the ids of the installed architectures; a family, such as timm, is one of them."""
    return _ids("architectures")


def list_techniques() -> list[str]:
    """Return the ids of the installed techniques."""
    return _ids("techniques")


def _ids(kind: PluginKind) -> list[str]:
    """The ids of a kind, as ``distribution:id`` where several distributions claim one."""
    plugins = find_plugins(kind)
    claims = Counter(plugin.id for plugin in plugins)
    return sorted(plugin.id if claims[plugin.id] == 1 else plugin.full_id for plugin in plugins)
