"""Engines that TensorRT built, in the cache: a folder for each model, GPU, versions and options.

ONNX Runtime names the files in such a folder by the structure of a network alone, and writes them where they are to
stay. So each network has a folder of its own; an engine is built next to it and moved there when complete; another
process waits meanwhile, and one that was killed leaves nothing that would be taken for an engine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from zoo.errors import ZooError
from zoo.machine.nvidia import gpu_identity
from zoo.storage.atomic import write_bytes_atomic, writing
from zoo.storage.cache_dir import cache_dir
from zoo.storage.file_lock import file_lock, release, try_acquire

T = TypeVar("T")

_SUBJECT = "built-for.json"


def open_or_build_engine(
    data: bytes,
    options: Mapping[str, str],
    version: str,
    build: Callable[[Path], T],
    *,
    root: Path = Path("/"),
) -> T:
    """Return the result of `build` for the folder of a model's engine, an earlier call's or a new one.

    An engine that does not load is built again.

    Args:
        data: Bytes of the model.
        options: Of TensorRT.
        version: Of TensorRT.
        build: Loads or builds the engine in a folder.
        root: Root of the machine's files.

    Raises:
        OutputError: The cache cannot be written.
        Exception: What `build` raises.
    """
    subject = {"version": version, "gpu": gpu_identity(root), "options": dict(options)}
    folder = engines_folder() / _key(data, subject)
    building = folder.with_name(f".{folder.name}.tmp")
    with file_lock(lock_of(folder)):
        if folder.is_dir():
            try:
                os.utime(folder)
                return build(folder)
            except ZooError:
                shutil.rmtree(folder, ignore_errors=True)
        with writing(building):
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
        try:
            built = build(building)
            write_bytes_atomic(building / _SUBJECT, json.dumps(subject, indent=1).encode())
            with writing(folder):
                os.rename(building, folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        return built


def engines_folder() -> Path:
    """Return the folder of all engines."""
    return cache_dir() / "tensorrt"


def lock_of(folder: Path) -> Path:
    """Return the lock file that is held while an engine is built or loaded."""
    return folder.with_name(f".{folder.name}.lock")


def outdated_engines(version: Callable[[], str], *, root: Path = Path("/")) -> Iterator[Path]:
    """Yield folders to remove: engines built with another version or for another GPU, and leftovers of killed builds.

    Args:
        version: Returns the version of TensorRT; only called if there is an engine.
        root: Root of the machine's files.
    """
    try:
        paths = sorted(engines_folder().iterdir())
    except OSError:
        return
    for path in (path for path in paths if path.suffix == ".tmp"):
        lock = path.with_suffix(".lock")
        descriptor = try_acquire(lock)
        if descriptor is not None:
            release(lock, descriptor)
            yield path
    engines = [path for path in paths if path.name[0] != "."]
    current = [version(), gpu_identity(root)] if engines else []
    for folder in engines:
        try:
            subject = json.loads((folder / _SUBJECT).read_bytes())
            fits = [subject["version"], subject["gpu"]] == current
        except (OSError, ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            yield folder


def _key(data: bytes, subject: Mapping[str, object]) -> str:
    digest = hashlib.sha256(data)
    digest.update(json.dumps(subject, sort_keys=True).encode())
    return digest.hexdigest()[:32]
