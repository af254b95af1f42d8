"""Faster repeated exports: otherwise torch builds its table of translations to ONNX each time, for half a second."""

from __future__ import annotations

import functools
import sys
from typing import Any

_MODULE = "torch.onnx._internal.exporter._registration"


def keep_translations() -> None:
    """Let later exports of this process share one table. Does nothing before the first export, or without it."""
    registry: Any = getattr(sys.modules.get(_MODULE), "ONNXRegistry", None)
    build = getattr(registry, "from_torchlib", None)
    if build is not None and not hasattr(build, "cache_info"):
        registry.from_torchlib = staticmethod(functools.cache(build))
