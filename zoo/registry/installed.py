"""The registry and the checkpoints of this installation: inside the package (wheel) or next to it (source tree)."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import IntegrityError
from zoo.extras import REINSTALL

PACKAGE = Path(__file__).resolve().parent


def registry_file() -> Path:
    """Return the registry.toml of this installation.

    Raises:
        IntegrityError: It is missing.
    """
    path = _part("registry.toml")
    if not path.is_file():
        raise IntegrityError(
            f"This installation has no registry.toml (looked in {PACKAGE} and {PACKAGE.parents[1]}).",
            hint=REINSTALL,
        )
    return path


def shipped_folder(name: str) -> Path:
    """Return the folder of a checkpoint that is part of this installation.

    Raises:
        IntegrityError: It is missing.
    """
    folder = _part("checkpoints") / name
    if not folder.is_dir():
        raise IntegrityError(
            f"The checkpoint {name} should be part of this installation, but {folder} is missing.",
            hint=REINSTALL,
        )
    return folder


def _part(name: str) -> Path:
    """Inside the package of a wheel; in a source tree, next to the packages."""
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parents[1] / name
