"""Checkpoints on this machine: finding them by name, listing, verifying and pruning the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.checkpoints.listing import CachedCheckpoint, Leftover, cached_checkpoints, leftovers
    from zoo.checkpoints.pruning import CheckedCheckpoint, prunable, remove, verify
    from zoo.checkpoints.resolver import Location, find_location, locate_artifact
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.checkpoints.listing": (
                "CachedCheckpoint",
                "Leftover",
                "cached_checkpoints",
                "leftovers",
            ),
            "zoo.checkpoints.pruning": (
                "CheckedCheckpoint",
                "prunable",
                "remove",
                "verify",
            ),
            "zoo.checkpoints.resolver": (
                "Location",
                "find_location",
                "locate_artifact",
            ),
        },
    )

__all__ = [
    "CachedCheckpoint",
    "CheckedCheckpoint",
    "Leftover",
    "Location",
    "cached_checkpoints",
    "find_location",
    "leftovers",
    "locate_artifact",
    "prunable",
    "remove",
    "verify",
]
