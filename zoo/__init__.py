"""zoo: a model zoo and plugin registry for neural-network compression.

Importing this package is cheap: it loads neither torch nor numpy nor an engine.
"""

from __future__ import annotations

from zoo.version import __version__

__all__ = ["__version__"]
