"""The software: Python, what the runner needs, engines."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from zoo import plugins
from zoo.contracts import DeviceProfile
from zoo.doctor.finding import Finding, Severity
from zoo.doctor.remedies import engine_remedy, gpu_runtime_remedy, runtime_remedy
from zoo.engines.opening import name_engine_in_errors
from zoo.engines.ort_session import DISTRIBUTIONS
from zoo.errors import UnknownIdError, ZooError
from zoo.machine.nvidia import has_gpu
from zoo.plugins.discovery import distributions, version_of

#: Installs torch without CUDA; it is not needed where there is no GPU.
CPU_TORCH = "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"
#: How the names of the distributions begin that the CUDA build of torch brings.
_CUDA_DISTRIBUTIONS = ("nvidia-", "cuda-", "triton")
_NEEDED = ("numpy", "rawpy", "pillow", "safetensors", "tifffile")


def software_findings(profile: DeviceProfile, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what there is to say about Python, packages and engines."""
    yield Finding(
        "python", Severity.OK, f"{platform.python_version()} ({platform.libc_ver()[1] or sys.platform})"
    )
    for name in _NEEDED:
        version = version_of(name)
        if version is None:
            yield Finding(name, Severity.PROBLEM, "not installed", f"pip install {name}")
    yield from _cuda_build(root)
    yield from _runtimes(profile)
    yield from _engines(profile, root)


def _cuda_build(root: Path) -> Iterator[Finding]:
    """Yield a note where torch was installed for GPUs that are not there, with the room that takes."""
    torch = _files("torch")
    if has_gpu(root) or not any(name == "libtorch_cuda.so" for name, _ in torch):
        return
    libraries = [name for name in distributions() if name.startswith(_CUDA_DISTRIBUTIONS)]
    size = sum(size for name, size in torch if "cuda" in name)
    size += sum(size for library in libraries for _, size in _files(library))
    yield Finding(
        "torch",
        Severity.NOTE,
        f"built for CUDA, but there is no NVIDIA GPU: {size / 1e9:.1f} GB are of no use here",
        f"In a new environment, before anything else:  {CPU_TORCH}",
    )


def _files(distribution: str) -> list[tuple[str, int]]:
    """Return name and bytes of each file of an installed distribution, as its record states them."""
    try:
        files = metadata.files(distribution)
    except metadata.PackageNotFoundError:
        return []
    return [(file.name, file.size or 0) for file in files or []]


def _runtimes(profile: DeviceProfile) -> Iterator[Finding]:
    found = {name: version for name in DISTRIBUTIONS if (version := version_of(name))}
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        keep = next(name for name in found if name != "onnxruntime")
        again = gpu_runtime_remedy(profile).partition("&& ")[2] if keep == "onnxruntime-gpu" else ""
        yield Finding(
            "onnxruntime", Severity.PROBLEM, f"{shown} are installed, and each overwrites files of the other",
            f"pip uninstall -y {' '.join(found)} && {again or f'pip install {keep}'}",
        )  # fmt: skip
    elif found:
        yield Finding("onnxruntime", Severity.OK, shown)


def _engines(profile: DeviceProfile, root: Path) -> Iterator[Finding]:
    """Yield each engine the profile wants, best first; the first that runs is the one that is used."""
    chosen = False
    for name in profile.engines:
        try:
            engine = plugins.engine(name)
            with name_engine_in_errors(name):
                obstacle = engine.available()
                version = engine.version() if obstacle is None else ""
        except UnknownIdError:
            remedy = engine_remedy(name, profile, root)
            yield Finding(f"engine {name}", Severity.NOTE, "not installed; it would be preferred", remedy)
            continue
        except ZooError as error:
            yield Finding(f"engine {name}", Severity.NOTE, error.message.splitlines()[0], error.hint or "")
            continue
        if obstacle is not None:
            yield Finding(f"engine {name}", Severity.NOTE, obstacle, engine_remedy(name, profile, root))
            continue
        used = "" if chosen else ", the one that is used"
        chosen = True
        yield Finding(f"engine {name}", Severity.OK, f"{version}{used}")
    if not chosen:
        yield Finding(
            "engine",
            Severity.PROBLEM,
            f"none of {', '.join(profile.engines)} can run here",
            runtime_remedy(profile),
        )
