"""Files of engines in the cache that are out of date and can be removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from zoo.engines import prepared_models, tensorrt_cache
from zoo.engines.ort_session import runtime_version
from zoo.engines.tensorrt import TensorRtEngine
from zoo.errors import ZooError


def cached_leftovers() -> Iterator[tuple[str, Path]]:
    """Yield a description and the path of each; none of an engine that is not installed."""
    with contextlib.suppress(ZooError):
        for path in tensorrt_cache.outdated_engines(TensorRtEngine().version):
            yield "TensorRT engine for another version", path
    with contextlib.suppress(ZooError):
        for path in prepared_models.outdated_models(runtime_version()):
            yield "network prepared for another version", path
