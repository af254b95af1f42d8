"""Fetching a checkpoint: exactly the bytes that the registry pins, or nothing. Nothing fetched is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.download.named_registry import load_registries
    from zoo.download.puller import Pulled, pull
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.download.named_registry": ("load_registries",),
            "zoo.download.puller": (
                "Pulled",
                "pull",
            ),
        },
    )

__all__ = ["Pulled", "load_registries", "pull"]
