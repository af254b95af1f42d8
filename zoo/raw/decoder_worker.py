"""The child process that decodes the RAW files of strangers; :mod:`zoo.raw.subprocess_decoder` starts it and asks.

It is given each file open, so that it opens none by a name of its own, and sends back a description and then the
pixels, straight from LibRaw's memory. What a file does to it ends here.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from zoo.errors import InputError
from zoo.raw.decode import RawFrame, open_frame

#: What it says when it can take questions. Each answer begins with the length of its description, in as many bytes.
READY = b"RAW\n"
_LARGEST_QUESTION = 1 << 16
#: Rows that are sent at once, of about this many bytes.
_CHUNK = 1 << 20
_PR_SET_PDEATHSIG = 1

Open = Callable[[str, str], AbstractContextManager[RawFrame]]


def main(open_: Open = open_frame) -> None:
    """Answer until the parent closes the socket, whose number and the parent's id are the arguments."""
    import rawpy  # noqa: F401 - it takes a while, which must not count as time of the first file

    descriptor, parent = (int(argument) for argument in sys.argv[-2:])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group; the parent tells of it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=descriptor) as channel:
        channel.sendall(READY)
        while True:
            message, files, _, _ = socket.recv_fds(channel, _LARGEST_QUESTION, 1)
            if not message:
                return
            question = json.loads(message)
            _limit(question["seconds"], question["memory"])
            try:
                _answer(channel, open_, files[0], question["name"])
            finally:
                os.close(files[0])


def _answer(channel: socket.socket, open_: Open, file: int, name: str) -> None:
    import numpy as np

    try:
        # By descriptor: nothing can be put in the file's place, and no name is too odd for LibRaw.
        with open_(f"/dev/fd/{file}", name) as frame:
            _describe(
                channel,
                height=frame.mosaic.shape[0],
                width=frame.mosaic.shape[1],
                pattern=frame.pattern.ravel().tolist(),
                black=frame.black,
                white=frame.white,
                gains=frame.gains,
                flip=frame.flip,
            )
            rows = max(1, _CHUNK // frame.mosaic[0].nbytes)
            for start in range(0, len(frame.mosaic), rows):
                channel.sendall(np.ascontiguousarray(frame.mosaic[start : start + rows]).data)
    except InputError as error:
        _describe(channel, error=error.message, hint=error.hint)


def _describe(channel: socket.socket, **fields: object) -> None:
    content = json.dumps(fields).encode()
    channel.sendall(len(content).to_bytes(len(READY), "little") + content)


def _die_with(parent: int) -> None:
    """Have the kernel (Linux) kill this process when the parent ends, and first when memory runs out."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(0)
    Path("/proc/self/oom_score_adj").write_text("1000")


def _limit(seconds: int, memory: int) -> None:
    """Processor time and address space of the next file, in seconds and bytes."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, resource.RLIM_INFINITY))
    if sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        held = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, resource.RLIM_INFINITY))
