"""Packages that only some installs have."""

from __future__ import annotations

import importlib
from types import ModuleType

from zoo.errors import MissingDependencyError

#: What `pip install 'compression-zoo[compress]'` adds, by import name.
COMPRESS_PACKAGES = ("torch", "timm", "skimage", "sklearn", "onnx", "onnxscript", "accelerate")


def require(module: str, purpose: str, extra: str = "compress") -> ModuleType:
    """Import `module`, or raise :class:`MissingDependencyError` naming the pip command that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise MissingDependencyError(
            f"{purpose} needs the package '{missing}', which is not installed here.",
            hint=f"Install it with:  pip install 'compression-zoo[{extra}]'",
        ) from error
