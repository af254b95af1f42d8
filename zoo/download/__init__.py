"""Fetching a checkpoint: exactly the bytes that the registry pins, or nothing. Nothing fetched is executed."""

from __future__ import annotations

from zoo.download.puller import Pulled, pull

__all__ = ["Pulled", "pull"]
