"""Networks in the form that ONNX Runtime makes of them, kept in the cache: what is loaded need not be made again.

Rewriting a file for this processor and optimizing its graph takes longer than all else about loading a small one. The
optimized graph is the same for any number of threads, and fits one kind of processor and one build of ONNX Runtime,
which lays weights out for their vector units.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zoo import onnx
from zoo.machine.processors import machine_fingerprint
from zoo.storage.result_cache import ResultCache, outdated

_KIND = "onnxruntime"
#: What rewrites a network before it is prepared lies in zoo.onnx.
_CODE = (Path(__file__), Path(onnx.__file__))
#: Bytes of networks that are kept. Of larger ones the time goes into computing, and a board has little room.
LARGEST = 64 << 20


def load_or_prepare(
    digest: str, version: str, unsigned: bool, make: Callable[[Path], None], size: int
) -> bytes | None:
    """Return the optimized form of a network, from the cache or made now; None if it cannot be kept.

    Args:
        digest: The network's sha256.
        version: Of ONNX Runtime.
        unsigned: What the network was rewritten for.
        make: Writes the optimized network to a path.
        size: Bytes of the network as it is.
    """
    if size > LARGEST:
        return None
    cache = ResultCache(_KIND, {"model": digest, "unsigned": unsigned, **_here(version)}, *_CODE)
    known = cache.read(LARGEST)
    if known is not None or not cache.writable:
        return known
    with tempfile.TemporaryDirectory(prefix="zoo-prepared-") as folder:
        path = Path(folder) / "model.onnx"
        make(path)
        if path.stat().st_size > LARGEST:
            return None
        made = path.read_bytes()
    cache.write(made)
    return made


def outdated_models(version: str) -> Iterator[Path]:
    """Yield networks kept for another ONNX Runtime, another processor or another version of zoo."""
    return outdated(_KIND, _here(version), *_CODE)


def _here(version: str) -> dict[str, Any]:
    return {"engine_version": version, "machine": machine_fingerprint()}
