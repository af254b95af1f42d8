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
            hint=install_hint(extra),
        ) from error


def install_hint(extra: str) -> str:
    """The pip command that brings an extra; with "cpu", what to do on a board that came with an engine."""
    board = "" if extra != "cpu" else "  (on a Jetson take NVIDIA's own onnxruntime-gpu instead)"
    return f"Install it with:  pip install 'compression-zoo[{extra}]'{board}"
