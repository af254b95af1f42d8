"""Files and folders that appear whole or not at all.

Everything is written under a temporary name next to the target, synced, and renamed. A process that is killed
leaves a temporary name behind, and the next write to the same target removes it: a writer holds a lock on
what it writes, which tells an abandoned file from one in use.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from zoo.errors import InputError, OutputError, UsageError, ZooError
from zoo.storage.flock import same_file, try_lock

CHUNK = 1 << 20
#: The same where the memory is used again: what fits a processor's cache.
_AT_ONCE = 1 << 17
_REASONS = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too large for this file system",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the device reported an input/output error",
    errno.EISDIR: "it is a directory",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ENOENT: "it does not exist",
    errno.EEXIST: "a file of that name is in the way",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ELOOP: "it is a symbolic link",
    errno.ENXIO: "it is not a regular file",
}
_REMEDIES = {
    errno.ENOSPC: "Free some space, or name another place.",
    errno.EDQUOT: "Free some space, or name another place.",
    errno.EROFS: "Name a place that can be written to.",
    errno.EACCES: "Check its permissions, or name another place.",
    errno.EPERM: "Check its permissions, or name another place.",
}


# ----------------------------------------------------------------------------------------------------- errors


def reason_of(error: OSError) -> str:
    """Return what an operating-system error means, as the second half of a sentence."""
    return _REASONS.get(error.errno or 0) or (error.strerror or str(error)).lower()


def _refuse_output(path: Path, error: OSError) -> NoReturn:
    if error.errno is None:  # numpy's short write: "720000 requested and 130968 written"
        raise OutputError(
            f"Cannot write {path}: {error}; is the device full?", hint=_REMEDIES[errno.ENOSPC]
        ) from error
    reason = "its folder does not exist" if error.errno == errno.ENOENT else reason_of(error)
    raise OutputError(f"Cannot write {path}: {reason}.", hint=_REMEDIES.get(error.errno or 0)) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        _refuse_output(path, error)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into an InputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot read {path}: {reason_of(error)}.") from error


# ---------------------------------------------------------------------------------------------------- reading


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a symbolic link, a folder, a pipe or a device is refused.

    The check is made on the opened file, so nothing can be swapped in between.

    Raises:
        InputError: The file cannot be opened, or is not regular.
    """
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with reading(path):
        descriptor = os.open(path, flags)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO, "not a regular file")
        return os.fdopen(descriptor, "rb")


def open_linked(path: Path) -> BinaryIO:
    """Open a regular file for reading as :func:`open_regular` does, but follow a link that leads to one."""
    return open_regular(without_links(path))


def without_links(path: Path) -> Path:
    """Return the absolute path that links lead to; where they go round in circles, opening it says so."""
    return Path(os.path.realpath(path))


def read_bytes(path: Path, limit: int, *, error: type[ZooError] = InputError) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        limit: The most bytes it may have.
        error: What is raised if it has more.

    Raises:
        InputError: It cannot be read.
    """
    with open_regular(path) as stream, reading(path):
        # A buffer of the limit's size would be set aside whatever the file holds.
        content = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)
    if len(content) > limit:
        raise error(f"{path} is larger than the {limit:,} bytes such a file may have.")
    return content


def read_text(path: Path, limit: int = 1 << 26) -> str:
    """Return the text of a regular file, or of one that a link leads to, less a mark of its byte order.

    Args:
        path: The file.
        limit: The most bytes it may have.

    Raises:
        InputError: It cannot be read, is larger, or is not UTF-8.
    """
    content = read_bytes(without_links(path), limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text in UTF-8.") from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a regular file in hexadecimal, read in pieces.

    Raises:
        InputError: It cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream, reading(path):
        for chunk in chunks(stream):
            digest.update(chunk)
    return digest.hexdigest()


def chunks(stream: BinaryIO) -> Iterator[memoryview]:
    """Yield the rest of a file, each piece in the memory of the one before."""
    buffer = memoryview(bytearray(_AT_ONCE))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        yield buffer[:count]


# ---------------------------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary stream whose content replaces `path` when the body ends without an exception.

    Until then, and after any exception or a kill, `path` is what it was before.

    Raises:
        OutputError: It cannot be written; OSErrors of the body count as failures to write.
    """
    with writing(path):
        _check_replaceable(path)
        temporary, descriptor, lock = _claim(path, _create_file)
    try:
        with writing(path):
            # Opened by its path for the sake of libraries that look at the stream's name.
            with open(temporary, "wb", opener=lambda *_: descriptor) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            _sync(path.parent)
    except BaseException:
        if same_file(lock, temporary):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(lock)


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path`, replacing it in one step.

    Raises:
        OutputError: It cannot be written.
    """
    with atomic_write(path) as stream:
        stream.write(content)


@contextlib.contextmanager
def atomic_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make an empty folder to fill, which becomes `target` when the body ends without an exception.

    Missing parent folders are made.

    Args:
        target: The folder; an empty one may exist.
        replace: Whether an existing folder is exchanged for the new one, and removed.

    Raises:
        OutputError: The target exists, or cannot be made; OSErrors of the body count as failures to write.
    """
    with writing(target):
        _restore(target)
    check_folder_target(target, replace=replace)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder, descriptor, lock = _claim(target, _create_folder)
        os.close(descriptor)
    try:
        with writing(target):
            yield folder
            _sync_tree(folder)
            _install(folder, target, replace)
    finally:
        if same_file(lock, folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Make an empty folder next to a path, which is removed when the body ends.

    What a killed process left is removed with the next. Missing parent folders are made.

    Raises:
        OutputError: It cannot be made.
    """
    with writing(beside):
        beside.parent.mkdir(parents=True, exist_ok=True)
        folder, descriptor, lock = _claim(beside, _create_folder)
        os.close(descriptor)
    try:
        yield folder
    finally:
        if same_file(lock, folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def check_png_target(path: Path, example: str) -> None:
    """Check, before any work, that a plot is to be a PNG file.

    Raises:
        UsageError: The path does not end in .png.
    """
    check_suffix(path, ".png", "Plots are PNG files", example)


def check_suffix(path: Path, suffix: str, rule: str, example: str) -> None:
    """Check, before any work, that an output is called by what it is.

    Raises:
        UsageError: The path does not end in `suffix`, such as ".svg".
    """
    if path.suffix.lower() != suffix:
        raise UsageError(f"{rule}, not '{path.name[:60]}'.", hint=f"Name it, for example, {example}")


def check_folder_target(target: Path, *, replace: bool = False) -> None:
    """Check that :func:`atomic_folder` could make `target`; call it before long work.

    Raises:
        OutputError: It could not.
    """
    with writing(target):
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise OutputError(f"{target} exists and is not a folder.", hint="Name another place.")
        if target.is_dir() and any(target.iterdir()) and not replace:
            raise OutputError(
                f"{target} already exists.", hint="Name another folder, or remove this one first."
            )


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a folder, a device or a pipe by a file."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO, "not a regular file")


def _create_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def _create_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY)


def _claim(target: Path, create: Callable[[Path], int]) -> tuple[Path, int, int]:
    """Create and lock a temporary name next to `target`: its path, a descriptor, another that holds the lock.

    The names are numbered, so that what a killed process left is met again and removed.
    """
    claimed: tuple[Path, int, int] | None = None
    for number in itertools.count():
        # A long target name is cut, or the temporary one would be too long for the file system.
        path = target.with_name(f".{target.name[:100]}.{number}.tmp")
        if os.path.lexists(path):
            _remove_abandoned(path)
        elif claimed is not None:
            return claimed
        if claimed is None:
            with contextlib.suppress(FileExistsError):
                descriptor = create(path)
                if try_lock(descriptor) and same_file(descriptor, path):
                    claimed = path, descriptor, os.dup(descriptor)
                else:  # another process took it for an abandoned one
                    os.close(descriptor)
    raise AssertionError("unreachable")


def _remove_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_symlink():
            path.unlink()
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not try_lock(descriptor):
                return
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(descriptor)


def _sync(path: Path) -> None:
    """Have a file or folder reach the disk. Some file systems cannot sync a folder; that is not an error."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(root, name))
        _sync(Path(root))


def _install(folder: Path, target: Path, replace: bool) -> None:
    if replace and target.is_dir():
        _replace(folder, target)
        _sync(target.parent)
        return
    try:
        os.rename(folder, target)  # fails if the target is a file, or a folder that holds something
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and os.path.lexists(target):
            raise OutputError(
                f"{target} was created by another process in the meantime.", hint="Try again."
            ) from error
        raise
    try:
        _sync(target.parent)
    except OSError:
        os.rename(target, folder)  # what is reported to have failed is not there, and may be tried again
        raise


def _replace(folder: Path, target: Path) -> None:
    """Put `folder` in the place of `target`, and remove what was there."""
    old = os.open(target, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        # Locked, the old folder is safe from others' cleaning once it has the temporary name.
        if not try_lock(old):
            raise OutputError(f"{target} is being replaced by another process.", hint="Try again.")
        if _exchange(folder, target):
            shutil.rmtree(folder, ignore_errors=True)
            return
        previous = _previous(target)
        os.rename(target, previous)
        try:
            os.rename(folder, target)
        except BaseException:
            os.rename(previous, target)
            raise
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        os.close(old)


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name[:100]}.previous")


def _restore(target: Path) -> None:
    """Undo a replacement killed between its two renames (where folders cannot be exchanged)."""
    previous = _previous(target)
    if not previous.is_dir():
        return
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
    else:
        os.rename(previous, target)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step (Linux, renameat2); False where that cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    at_cwd, exchange = -100, 2
    return bool(renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), exchange) == 0)
