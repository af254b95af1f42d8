"""The files that a run is given: files, folders of them, and what comes in on standard input."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.runner.file_result import FileResult

#: What standard input is called on the command line, and the file that it becomes.
STDIN = Path("-")
_STDIN_NAME, _FOLDER = "stdin", "zoo-stdin-"
_LARGEST = 1 << 30


@contextlib.contextmanager
def input_files(given: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the files that are named: of a folder its files in order of their names, hidden ones left out.

    Args:
        given: Files, folders, and at most one "-" for standard input, which is a file while the body runs.

    Raises:
        InputError: A folder holds no files, or nothing comes in on standard input.
    """
    with contextlib.ExitStack() as stack:
        found: list[Path] = []
        for path in given:
            if path == STDIN:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=_FOLDER))
                found.append(_standard_input(Path(folder)))
            elif path.is_dir():
                found += _files_in(path)
            else:
                found.append(path)
        yield found


def call_by_its_name(result: FileResult) -> None:
    """Have a result call standard input so, not by the file that it became."""
    if result.path.name == _STDIN_NAME and result.path.parent.name.startswith(_FOLDER):
        path, result.path = str(result.path), Path(_STDIN_NAME)
        if result.error is not None:
            result.error.message = result.error.message.replace(path, "standard input")
            result.error.args = (result.error.message,)


def _files_in(folder: Path) -> list[Path]:
    files = sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    if not files:
        raise InputError(f"The folder {folder} contains no files.", hint="Name a folder of images.")
    return files


def _standard_input(folder: Path) -> Path:
    content = sys.stdin.buffer.read(_LARGEST + 1)
    if not content or len(content) > _LARGEST:
        what = "more than a gigabyte" if content else "nothing"
        raise InputError(
            f"Standard input holds {what}.", hint="Pipe one file into it:  zoo run NAME - < FILE"
        )
    path = folder / _STDIN_NAME
    path.write_bytes(content)
    return path
