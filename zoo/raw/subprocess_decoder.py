"""Decoding the RAW files of strangers in a child process, which a file may crash, hang or fill.

LibRaw is C++ with a history of overflows. One child serves a whole batch; after a crash the next file gets a new
one. The pixels come back through a socket, from LibRaw's memory into the array that they stay in: for 24 megapixels
that takes half the time of memory that both processes map, whose pages the kernel clears and maps one by one.
The child is not a sandbox against code that runs in it: see docs/security.md.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from zoo.errors import InputError, ZooError
from zoo.processes.channel import fill, receive_description
from zoo.processes.child import ChildProcess
from zoo.processes.child_limits import tighter_than
from zoo.processes.launch import SINGLE_THREADED, plain_environment
from zoo.raw.decode import FLIPS, LARGEST_GAIN, RawFrame, open_raw, plausible_matrix
from zoo.raw.decoder_worker import READY
from zoo.raw.noise import plausible_noise
from zoo.schema import StrictTable, parse_json

#: What the child runs.
WORKER = "zoo.raw.decoder_worker:main"
_START_SECONDS = 60
#: For a child that stopped answering to end by itself, so that its exit status tells why.
_GRACE_SECONDS = 1
_LARGEST_TEXT = 10_000
_MOST_DOUBTS = 10
_LARGEST_SIDE = 1 << 16
_TOO_LONG = "kept the RAW decoder busy for more than"
_ADVICE = "It is damaged or malicious. If other programs open it, report it with the camera's name."


@dataclass(frozen=True)
class DecodeLimits:
    """What decoding a file may take: a base, and a share for each byte of the file.

    LibRaw holds two bytes a pixel and what it needs for decompression; a camera's best leaves a quarter of a byte.
    """

    seconds: float = 30
    seconds_per_mb: float = 1
    memory_mb: int = 512
    memory_per_byte: int = 16
    most_memory_mb: int = 3072

    def seconds_for(self, size: int) -> float:
        """Return the seconds, of the clock and of the processor, that a file of `size` bytes may take."""
        return self.seconds + self.seconds_per_mb * size / 2**20

    def memory_for(self, size: int) -> int:
        """Return bytes of address space for a file of `size` bytes, beyond what the child has when it is idle."""
        return min(self.memory_mb * 2**20 + self.memory_per_byte * size, self.most_memory_mb * 2**20)


class SubprocessDecoder:
    """Decodes RAW files in a child process, which is started by the first file; a context manager.

    The kernel (Linux) kills the child when the thread that started it ends.
    """

    def __init__(self, limits: DecodeLimits | None = None, target: str | None = None) -> None:
        self._limits = limits or DecodeLimits()
        self._target = target or WORKER
        self._child: ChildProcess | None = None
        self._ready = False

    def __enter__(self) -> SubprocessDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """Return the id of the child's process, None if there is none."""
        return None if self._child is None else self._child.id

    def close(self) -> None:
        """End the child, whatever it does; the next file starts another."""
        self._end()

    def abort(self) -> None:
        """Kill the child from another thread, which ends its file with an error."""
        child = self._child
        if child is not None:
            child.kill()

    def start(self) -> None:
        """Start the child before its first file; it is waited for when it is asked.

        Raises:
            ZooError: That cannot be done.
        """
        if self._child is None:
            self._start(copy=True)

    def decode(self, path: Path, *, last: bool = False) -> RawFrame:
        """Read a RAW file as :func:`zoo.raw.decode.decode` does.

        Args:
            path: The file.
            last: Whether the child ends afterwards.

        Raises:
            InputError: As :func:`zoo.raw.decode.decode`; also for a file that crashes the decoder, or takes
                more time or memory than a file of its size may.
            ZooError: The child cannot be started.
        """
        with open_raw(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            seconds = self._limits.seconds_for(size)
            memory = self._limits.memory_for(size)
            question = json.dumps({"name": str(path), "seconds": math.ceil(seconds), "memory": memory})
            channel = self._running()
            try:
                deadline = time.monotonic() + seconds
                channel.settimeout(seconds)
                socket.send_fds(channel, [question.encode()], [stream.fileno()])
                frame = _receive(channel, deadline, str(path), memory)
            except TimeoutError:
                self._end()
                raise InputError(
                    f"{path} {_TOO_LONG} {seconds:.0f} s; it was stopped.", hint=_ADVICE
                ) from None
            except OSError:
                fate = _fate(self._end(_GRACE_SECONDS))
                if machine := tighter_than(seconds, memory):
                    raise _held_back(path, machine) from None
                raise InputError(f"{path} {fate}.", hint=_ADVICE) from None
            except _Refused as error:
                if machine := tighter_than(seconds, memory):
                    raise _held_back(path, machine) from None
                raise InputError(error.message, hint=error.hint) from None
            except InputError as error:  # an answer that makes no sense
                self._end()
                raise InputError(error.message, hint=_ADVICE) from None
            except BaseException:  # Ctrl-C: a child in the middle of an answer is of no more use
                self._end()
                raise
        if last:
            self._end()
        return frame

    def _running(self) -> socket.socket:
        """Return the socket of a child that is alive and ready."""
        if self._child is None or not self._child.alive:
            self._end()
            self._start()
        assert self._child is not None
        channel = self._child.channel
        if not self._ready:
            try:
                fill(channel, bytearray(len(READY)), time.monotonic() + _START_SECONDS)
            except OSError as error:
                raise self._not_started(error) from error
            self._ready = True
        return channel

    def _start(self, *, copy: bool = False) -> None:
        self._ready = False
        environment = plain_environment(**SINGLE_THREADED)
        try:
            self._child = ChildProcess(self._target, environment=environment, copy=copy)
        except OSError as error:
            raise self._not_started(error) from error

    def _not_started(self, error: OSError) -> ZooError:
        child = self._child
        self._end(_GRACE_SECONDS)
        words = (child.last_words() if child else "") or str(error)
        machine = tighter_than(_START_SECONDS, self._limits.memory_for(0))
        return ZooError(
            f"The RAW decoder did not start: {words}",
            hint=f"This process may use only {machine}; raise that limit." if machine else "See:  zoo doctor",
        )

    def _end(self, grace: float = 0.0) -> int:
        """End the child, if there is one; return its exit status."""
        child, self._child = self._child, None
        return 0 if child is None else child.end(grace)


class _Refused(InputError):
    """What the child found wrong with a file; it can take another."""


def _held_back(path: Path, machine: str) -> InputError:
    """The error for a file that failed where this process may have less than a file of its size can take."""
    return InputError(
        f"{path} could not be decoded: this process may use only {machine}, less than such a file may take.",
        hint="Raise the limit. If it fails without the limit as well, the file is damaged.",
    )


def _fate(status: int) -> str:
    """Return what happened to the child, as the second half of a sentence about the file."""
    if status == -signal.SIGXCPU:
        return f"{_TOO_LONG} the seconds it may"
    if status == -signal.SIGKILL:
        return "had the RAW decoder killed, which mostly means that memory ran out"
    if status < 0:
        return f"made the RAW decoder crash ({signal.Signals(-status).name})"
    return "made the RAW decoder fail"


def _receive(channel: socket.socket, deadline: float, name: str, most: int) -> RawFrame:
    """Return the answer: a description and the pixels, of at most `most` bytes. Nothing that is said is believed."""
    import numpy as np

    answer = receive_description(channel, deadline)
    source = f"The RAW decoder's answer to {name}"
    fields = StrictTable(parse_json(answer, source, error=InputError), source, error=InputError)
    if "error" in fields:
        raise _Refused(
            str(fields.get("error"))[:_LARGEST_TEXT], hint=str(fields.get("hint", ""))[:_LARGEST_TEXT]
        )
    height = fields.integer("height", least=1, most=_LARGEST_SIDE)
    width = fields.integer("width", least=1, most=_LARGEST_SIDE)
    pattern = fields.numbers("pattern", longest=36)
    black, white = fields.numbers("black", longest=4), fields.numbers("white", longest=4)
    gains = fields.numbers("gains", longest=3)
    flip = fields.integer("flip", most=max(FLIPS))
    said = fields.check_list(fields.get("doubts"), "doubts", "texts", most=_MOST_DOUBTS)
    doubts = tuple(fields.check_text(each, "doubts", longest=_LARGEST_TEXT) for each in said)
    shot, read = fields.numbers("shot", longest=3), fields.numbers("read", longest=3)
    to_srgb = fields.numbers("to_srgb", longest=9)
    fits = (
        2 * height * width <= most
        and len(pattern) in (4, 36)
        and set(pattern) <= {0, 1, 2, 3}
        and (len(black), len(white), len(gains)) == (4, 4, 3)
        and all(0 <= low < high for low, high in zip(black, white, strict=True))
        and all(1 / LARGEST_GAIN <= gain <= LARGEST_GAIN for gain in gains)
        and flip in FLIPS
    )
    if not fits:
        fields.refuse("is inconsistent")
    mosaic = np.empty((height, width), dtype=np.uint16)
    fill(channel, mosaic.data.cast("B"), deadline)
    side = 2 if len(pattern) == 4 else 6
    return RawFrame(
        mosaic=mosaic,
        pattern=np.array(pattern, dtype=np.int64).reshape(side, side),
        black=(black[0], black[1], black[2], black[3]),
        white=(white[0], white[1], white[2], white[3]),
        gains=(gains[0], gains[1], gains[2]),
        flip=flip,
        noise=plausible_noise(shot, read),
        to_srgb=plausible_matrix(to_srgb),
        doubts=doubts,
    )
