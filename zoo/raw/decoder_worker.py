"""The child process that decodes the RAW files of strangers; :mod:`zoo.raw.subprocess_decoder` starts it and asks.

It is given each file open, so that it opens none by a name of its own, and sends back a description and then the
pixels, straight from LibRaw's memory. What a file does to it ends here.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

from zoo.errors import InputError
from zoo.processes.channel import send_description
from zoo.processes.child_limits import Ceiling, prepare_child
from zoo.raw.decode import RawFrame, open_frame

#: What it says when it can take questions.
READY = b"RAW\n"
_LARGEST_QUESTION = 1 << 16
#: Rows that are sent at once, of about this many bytes.
_CHUNK = 1 << 20

Open = Callable[[str, str], AbstractContextManager[RawFrame]]


def main(descriptor: str, parent: str, open_: Open = open_frame) -> None:
    """Answer until the parent closes the socket.

    Args:
        descriptor: Number of the socket.
        parent: Id of the parent's process.
        open_: Opens the frame of a file.
    """
    import rawpy  # noqa: F401 - it takes a while, which must not count as time of the first file

    prepare_child(int(parent))
    ceiling = Ceiling()
    with socket.socket(fileno=int(descriptor)) as channel:
        channel.sendall(READY)
        while True:
            message, files, _, _ = socket.recv_fds(channel, _LARGEST_QUESTION, 1)
            if not message:
                return
            question = json.loads(message)
            ceiling.limit_seconds(question["seconds"])
            ceiling.limit_memory(question["memory"])
            try:
                _answer(channel, open_, files[0], question["name"])
            finally:
                os.close(files[0])


def _answer(channel: socket.socket, open_: Open, file: int, name: str) -> None:
    import numpy as np

    try:
        # By descriptor: nothing can be put in the file's place, and no name is too odd for LibRaw.
        with open_(f"/dev/fd/{file}", name) as frame:
            height, width = frame.mosaic.shape
            described = {
                "height": height,
                "width": width,
                "pattern": frame.pattern.ravel().tolist(),
                "black": frame.black,
                "white": frame.white,
                "gains": frame.gains,
                "flip": frame.flip,
                "shot": frame.noise.shot if frame.noise else (),
                "read": frame.noise.read if frame.noise else (),
                "to_srgb": frame.to_srgb or (),
                "doubts": frame.doubts,
            }
            send_description(channel, described)
            rows = max(1, _CHUNK // frame.mosaic[0].nbytes)
            for start in range(0, len(frame.mosaic), rows):
                channel.sendall(np.ascontiguousarray(frame.mosaic[start : start + rows]).data)
    except InputError as error:
        send_description(channel, {"error": error.message, "hint": error.hint})
