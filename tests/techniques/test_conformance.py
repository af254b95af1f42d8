"""Every built-in technique passes the kit that third parties run."""

from __future__ import annotations

from zoo.plugins import find_plugins, load_plugin
from zoo.testing import technique_checks

for _plugin in find_plugins("techniques"):
    if _plugin.builtin:
        _cls = load_plugin(_plugin)
        globals()[f"Test{_cls.__name__}"] = technique_checks(_cls)
