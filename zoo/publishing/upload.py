"""Sending files to the Hub ahead of the commit that is to hold them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.publishing.client import translate_errors, uses_xet
from zoo.storage.atomic import reading

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from zoo.contracts import Reporter
    from zoo.publishing.bundle import UploadFile


def upload(
    api: HfApi, repository: str, files: Iterable[UploadFile], report: Reporter, opened: contextlib.ExitStack
) -> list[Any]:
    """Send the large files, and return the operations for the commit; small files travel with that.

    Args:
        api: Client of the Hub.
        repository: Its name.
        files: What is published.
        report: Shows progress.
        opened: Closes, after the commit, the files that it still reads.

    Raises:
        NetworkError: The Hub fails or refuses.
        InputError: A file cannot be read.
    """
    from huggingface_hub import CommitOperationAdd

    operations = []
    for file in files:
        if isinstance(file.source, bytes):
            operation, told = CommitOperationAdd(file.name, file.source), None
        elif uses_xet():  # which reads files itself, and would not take a stream
            operation, told = CommitOperationAdd(file.name, str(file.source)), None
        else:
            with reading(file.source):
                told = opened.enter_context(_Told(file.source, report))
                operation = CommitOperationAdd(file.name, told)  # reads it, for its sha256
        with translate_errors(f"uploading {file.name} to {repository}"):
            if told:
                told.telling = True
            # One after the other: an interrupt is then met at once, and no thread outlives it.
            api.preupload_lfs_files(repository, [operation], free_memory=False)
            if told:
                told.telling = False
        report.advance(file.entry.size - (told.told if told else 0))
        operations.append(operation)
    return operations


class _Told(io.BufferedReader):
    """A file that tells a reporter how much of it was read, and takes it back when it is read again."""

    def __init__(self, path: Path, report: Reporter) -> None:
        super().__init__(io.FileIO(path))
        self._report = report
        self.telling = False
        self.told = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self._tell()
        return content

    def seek(self, target: int, whence: int = 0, /) -> int:
        place = super().seek(target, whence)
        self._tell()
        return place

    def _tell(self) -> None:
        if self.telling:
            self._report.advance(self.tell() - self.told)
            self.told = self.tell()
