"""Children in the place of the one that decodes RAW files: the real one with the faults of native code, and a liar."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from zoo.raw import decoder_worker
from zoo.raw.decode import RawFrame, open_frame

FAULTY = "support.faulty_decoder:faulty"
LIAR = "support.faulty_decoder:lie"
BROKEN = "support.faulty_decoder:fail_to_start"

#: The brightest pixel of a file says which fault it triggers.
SEGFAULT, ABORT, SLEEP, SPIN, HOARD, BUG, HANGS_UP, KILLED, TALKS, LISTS = range(9001, 9011)


def faulty(descriptor: str, parent: str) -> None:
    @contextlib.contextmanager
    def open_faulty(file: str, name: str) -> Iterator[RawFrame]:
        with open_frame(file, name) as frame:
            _break(int(frame.mosaic.max()), int(descriptor), name)
            yield frame

    decoder_worker.main(descriptor, parent, open_faulty)


def _break(fault: int, channel: int, name: str) -> None:
    if fault == SEGFAULT:
        ctypes.string_at(0)
    if fault == ABORT:
        os.abort()
    if fault == SLEEP:
        time.sleep(1000)
    while fault == SPIN:
        pass
    if fault == HOARD:
        bytearray(2**32)
    if fault == BUG:
        raise RuntimeError("a bug")
    if fault == HANGS_UP:
        os.close(channel)
        time.sleep(1000)
    if fault == KILLED:
        os.kill(os.getpid(), 9)
    if fault == TALKS:
        os.write(channel, b"x" * 2**20)
    if fault == LISTS:
        Path(name + ".modules").write_text(" ".join(sys.modules))


def lie(descriptor: str, parent: str) -> None:
    """Answer what the file holds after "LIE"."""
    channel = socket.socket(fileno=int(descriptor))
    channel.sendall(decoder_worker.READY)
    while True:
        _, (file,), _, _ = socket.recv_fds(channel, 65536, 1)
        answer = {
            "height": 64, "width": 96, "pattern": [0, 1, 3, 2], "black": [0] * 4, "white": [9] * 4,
            "gains": [1, 1, 1], "flip": 0, "doubts": [],
        }  # fmt: skip
        said = json.loads(os.read(file, 10**6).partition(b"LIE")[2])
        content = json.dumps({**answer, **said}).encode() if isinstance(said, dict) else said.encode()
        channel.sendall(len(content).to_bytes(4, "little") + content + bytes(2 * 64 * 96))


def fail_to_start(descriptor: str, parent: str) -> None:
    raise ImportError("No module named rawpy")
