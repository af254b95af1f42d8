"""Talking with a child process through a socket: a length, a description in JSON, and what follows it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

#: Bytes of the length in front of a description.
LENGTH = 4
LARGEST_DESCRIPTION = 1 << 16


def send_description(channel: socket.socket, fields: dict[str, object], files: tuple[int, ...] = ()) -> None:
    """Send a table of plain values, and file descriptors with it.

    Raises:
        OSError: The other side has ended.
    """
    content = json.dumps(fields).encode()
    message = len(content).to_bytes(LENGTH, "little") + content
    if files:
        sent = socket.send_fds(channel, [message], files)
        message = message[sent:]
    channel.sendall(message)


def receive_description(
    channel: socket.socket, deadline: float, watch: Callable[[], None] | None = None
) -> bytes:
    """Return the text of a description that the other side sends, of at most LARGEST_DESCRIPTION bytes.

    Args:
        channel: The socket.
        deadline: Time of `time.monotonic` by which it must be there.
        watch: Called now and then while nothing comes.

    Raises:
        OSError: The other side ends first, or the time is over.
    """
    length = bytearray(LENGTH)
    fill(channel, length, deadline, watch)
    content = bytearray(min(int.from_bytes(length, "little"), LARGEST_DESCRIPTION))
    fill(channel, content, deadline)
    return bytes(content)


def fill(
    channel: socket.socket,
    buffer: bytearray | memoryview,
    deadline: float,
    watch: Callable[[], None] | None = None,
    interval: float = 0.05,
) -> None:
    """Receive as many bytes as the buffer has.

    Args:
        channel: The socket.
        buffer: Is filled.
        deadline: Time of `time.monotonic` by which that must be done.
        watch: Called now and then while nothing comes.
        interval: Seconds between two calls of `watch`.

    Raises:
        OSError: The other side ends first, or the time is over.
    """
    rest = memoryview(buffer)
    while rest:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it takes too long")
        channel.settimeout(left if watch is None else min(left, interval))
        try:
            count = channel.recv_into(rest)
        except TimeoutError:
            if watch is not None:
                watch()
            continue
        if not count:
            raise ConnectionError("it ended")
        rest = rest[count:]
