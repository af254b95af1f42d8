"""Fetching a checkpoint: exactly the bytes that the registry pins, or nothing. Nothing fetched is executed."""

from __future__ import annotations

from zoo.pull.places import cached_path
from zoo.pull.puller import Pulled, pull

__all__ = ["Pulled", "cached_path", "pull"]
