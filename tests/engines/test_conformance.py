"""Every built-in engine passes the kit that third parties run, where it can run."""

from __future__ import annotations

from zoo.plugins import find_plugins, load_plugin
from zoo.testing import engine_checks

for _plugin in find_plugins("engines"):
    if _plugin.builtin:
        _cls = load_plugin(_plugin)
        globals()[f"Test{_cls.__name__}"] = engine_checks(_cls, package="onnxruntime")
