"""Where zoo keeps what it can fetch or compute again."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import OutputError


def cache_dir() -> Path:
    """Return $ZOO_CACHE, or else compression-zoo in the user's cache folder (XDG Base Directory); it may not exist yet.

    Raises:
        OutputError: The user has no home folder.
    """
    chosen = os.environ.get("ZOO_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError as error:
        raise OutputError(
            "There is no place for the cache: this user has no home folder.",
            hint="Name one:  export ZOO_CACHE=DIR",
        ) from error
    return root / "compression-zoo"
