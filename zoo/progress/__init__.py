"""Showing the progress of long work: bars on terminals and in notebooks, lines elsewhere."""

from __future__ import annotations

from zoo.progress.reporters import in_notebook, progress

__all__ = ["in_notebook", "progress"]
