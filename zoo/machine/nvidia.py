"""NVIDIA's side of a machine, found in its files: the GPU, its driver, TensorRT. Nothing is loaded."""

from __future__ import annotations

import re
from pathlib import Path

from zoo.plugins.discovery import version_of

_ROOT = Path("/")
#: Files of a driver that has a GPU: of cards, and of the GPUs inside Jetsons.
_GPU_FILES = ("dev/nvidia0", "dev/nvhost-gpu", "dev/nvgpu", "proc/driver/nvidia/version")
_IDENTITY = (
    "proc/driver/nvidia/version",
    "proc/device-tree/compatible",
    "etc/nv_tegra_release",
)
_LIBRARY_FOLDERS = (
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "usr/local/lib",
    "usr/local/tensorrt/lib",
    "opt/tensorrt/lib",
)
_TENSORRT_DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11", "tensorrt-libs")


def has_gpu(root: Path = _ROOT) -> bool:
    """Return whether a driver of NVIDIA's is loaded."""
    return any((root / name).exists() for name in _GPU_FILES)


def gpu_identity(root: Path = _ROOT) -> str:
    """Return what identifies this GPU and its driver: models of cards, or the board and its release; "" for none."""
    parts = [
        match[1].strip()
        for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))
        if (match := re.search(r"^Model:\s*(.+)$", _read(path), re.MULTILINE))
    ]
    return "; ".join(filter(None, [*parts, *(_read(root / name) for name in _IDENTITY)]))


def tensorrt_version(root: Path = _ROOT) -> str | None:
    """Return the version of the TensorRT library, None if none is found."""
    for folder in _LIBRARY_FOLDERS:
        found = [
            match[1]
            for path in sorted((root / folder).glob("libnvinfer.so.*"))
            if (match := re.fullmatch(r"libnvinfer\.so\.(\d+(?:\.\d+)*)", path.name))
        ]
        if found:
            return max(found, key=len)  # the others are links to it
    return next(filter(None, map(version_of, _TENSORRT_DISTRIBUTIONS)), None)


def _read(path: Path) -> str:
    try:
        text = path.read_bytes()[:4096].decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(text.replace("\0", " ").split())
