"""Packages that only some installs have."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from zoo.errors import MissingDependencyError

#: What the extra `compress` adds, by import name.
COMPRESS_PACKAGES = ("torch", "timm", "skimage", "sklearn", "onnx", "onnxscript", "accelerate")

#: Where the commands of this module are typed.
IN_THE_CLONE = "in your clone of compression-zoo"
#: What mends an installation of which files are missing or broken.
REINSTALL = f"Install it again, {IN_THE_CLONE}:  pip install --force-reinstall --no-deps ."


def require(module: str, purpose: str, extra: str = "compress") -> ModuleType:
    """Import `module`, or raise :class:`MissingDependencyError` naming the pip command that installs it.

    The error says whether the package is missing or cannot be loaded.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if _interrupted(error):  # packages of C make of a Ctrl-C during their start an error of their own
            raise KeyboardInterrupt from error
        missing = error.name or module
        why = (
            "is not installed here."
            if _absent(missing)
            else f"cannot be loaded here: {str(error).strip()[:300]}"
        )
        raise MissingDependencyError(
            f"{purpose} needs the package '{missing}', which {why}", hint=install_hint(extra)
        ) from error


def _absent(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except (ImportError, ValueError):
        return True


def _interrupted(error: BaseException | None) -> bool:
    """Whether it came of a KeyboardInterrupt, at whatever remove."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def install_hint(extra: str) -> str:
    """Return how an extra is installed; with "cpu", also what to do on a board that ships an engine."""
    board = "" if extra != "cpu" else "  (on a Jetson take NVIDIA's own onnxruntime-gpu instead)"
    return f"Install it with, {IN_THE_CLONE}:  {install_command(extra)}{board}"


def install_command(extra: str = "") -> str:
    """Return the pip command that installs zoo with an extra.

    It is typed in the folder of the clone, since no distribution is published.
    """
    return f"pip install '.[{extra}]'" if extra else "pip install ."
