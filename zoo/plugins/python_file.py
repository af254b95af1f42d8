"""Python files of the user's own, which define networks or datasets: ``path/to/file.py:name``.

Such a file is executed, as Python executes it; it is the user who names it, never a download.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from zoo.errors import InputError, ZooError
from zoo.storage.atomic import read_bytes

_LARGEST = 1 << 24


def read(path: Path, what: str) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        what: It defines, for messages: "a network of your own".

    Raises:
        InputError: There is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"The file {path} of {what} does not exist.")
    return read_bytes(path, _LARGEST)


def execute(path: Path, content: bytes, sha256: str) -> ModuleType:
    """Return the module, executed once per process for one content; it may import files in its folder.

    Raises:
        InputError: It raises something; the message names the line.
    """
    name = f"zoo_own_{sha256[:16]}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and copying look it up there
    try:
        with blamed(path, "importing"), beside(path):
            exec(compile(content, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def beside(path: Path) -> Iterator[None]:
    """Let the body import what is next to a file."""
    folder = str(path.resolve().parent)
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


@contextlib.contextmanager
def blamed(path: Path, what: str) -> Iterator[None]:
    """Turn whatever the user's file raises within the body into an InputError that names the line."""
    try:
        yield
    except (ZooError, KeyboardInterrupt):
        raise
    except BaseException as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
        ]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = f"{path}, line {line}" if line else str(path)
        reason = str(error).strip().splitlines()
        raise InputError(
            f"{place}: {what} failed: {type(error).__name__}{f': {reason[0][:300]}' if reason else ''}"
        ) from error
