"""The child process that decodes the RAW files of strangers; :mod:`zoo.raw.isolated` starts it and asks.

It gets the open RAW file and an open memory file for the mosaic, so that it opens no file by a name of its own.
What LibRaw does to it, or makes of it, ends here.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rawpy  # noqa: F401 - while the parent still works, not when the first file comes

from zoo.errors import InputError
from zoo.raw.decode import RawFrame, decode_open

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.raw.decode import Place

_LARGEST_QUESTION = 1 << 16
#: What it says when it can take questions.
READY = b"ready\n"
_PR_SET_PDEATHSIG = 1

Decode = Callable[[int, str, "Place"], RawFrame]


def main(decode: Decode = decode_open) -> None:
    """Answer until the parent closes the socket, of which the number and the parent's id are the arguments."""
    descriptor, parent = (int(argument) for argument in sys.argv[-2:])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group; the parent tells of it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=descriptor) as channel:
        channel.sendall(READY)
        while _answer(channel, decode):
            pass


def _die_with(parent: int) -> None:
    """Have the kernel (Linux) kill this process when the parent ends, and first when memory runs out."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(0)
    Path("/proc/self/oom_score_adj").write_text("1000")


def _answer(channel: socket.socket, decode: Decode) -> bool:
    """Do one file; False at the end of the questions."""
    message, descriptors, _, _ = socket.recv_fds(channel, _LARGEST_QUESTION, 2)
    if not message:
        return False
    question = json.loads(message)
    file, memory = descriptors
    answer: dict[str, Any]
    try:
        _limit(question["seconds"], question["memory"])
        frame = decode(file, question["name"], lambda height, width: _mapped(memory, height, width))
        answer = {
            "height": frame.mosaic.shape[0],
            "width": frame.mosaic.shape[1],
            "pattern": frame.pattern.ravel().tolist(),
            "black": frame.black,
            "white": frame.white,
            "gains": frame.gains,
            "flip": frame.flip,
        }
    except InputError as error:
        answer = {"error": error.message, "hint": error.hint}
    finally:
        os.close(file)
        os.close(memory)
    channel.sendall(json.dumps(answer).encode() + b"\n")
    return True


def _limit(seconds: int, memory: int) -> None:
    """Processor time and address space of the next file, in seconds and bytes."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, resource.RLIM_INFINITY))
    if sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        held = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, resource.RLIM_INFINITY))


def _mapped(memory: int, height: int, width: int) -> npt.NDArray[np.uint16]:
    """The memory file as the array of a mosaic; the parent sees what is written there."""
    os.ftruncate(memory, 2 * height * width)
    return np.frombuffer(mmap.mmap(memory, 2 * height * width), np.uint16).reshape(height, width)
