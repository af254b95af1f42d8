"""Running an artifact on files: decode, pack, infer in tiles, write. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.runner.api import load, run
    from zoo.runner.file_result import FileResult
    from zoo.runner.runner import Runner, open_runner
    from zoo.runner.settings import Settings
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.runner.api": (
                "load",
                "run",
            ),
            "zoo.runner.file_result": ("FileResult",),
            "zoo.runner.runner": (
                "Runner",
                "open_runner",
            ),
            "zoo.runner.settings": ("Settings",),
        },
    )

__all__ = ["FileResult", "Runner", "Settings", "load", "open_runner", "run"]
