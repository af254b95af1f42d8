"""The child process in which an engine computes the network of a stranger, seen from the process that asks it.

What it says is not believed; whatever becomes of it is an error that says what the network did.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zoo import errors
from zoo.engines.engine_worker import RING
from zoo.errors import InputError, IntegrityError, PluginError, ZooError
from zoo.machine.memory import resident_bytes, status_bytes
from zoo.processes.channel import fill, receive_description, send_description
from zoo.processes.child import ChildProcess
from zoo.processes.fork import can_fork
from zoo.processes.launch import environment_without_secrets
from zoo.processes.ring import BrokenOffError, Ring, size_of
from zoo.processes.shared_memory import SharedMemory, anonymous_file
from zoo.schema import StrictTable, parse_json

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray
    from zoo.engines.checked_session import Finish

_TARGET = "zoo.engines.engine_worker:main"
#: For a child that stopped answering to end by itself, so that its exit status tells why.
_GRACE_SECONDS = 1
#: What a child may hold beyond its limit before it is ended: pages come and go in between.
_TOLERANCE = 24 << 20
_LARGEST_TEXT = 10_000


class EngineProcess:
    """A child that runs :mod:`zoo.engines.engine_worker`; it is of no more use once it is not `alive`.

    Args:
        engine: Id of the engine, for messages.
        memory: Bytes that the child may hold; None for any number.
        child: One that was started beforehand.

    Raises:
        ZooError: The child cannot be started.
    """

    def __init__(self, engine: str, memory: int | None, child: ChildProcess | None = None) -> None:
        self._engine, self._memory = engine, memory
        self._child: ChildProcess | None = child or _start_child()
        self._shared = SharedMemory(RING)
        self._ring = Ring(self._shared, self._child.channel, self._wait)
        self._seconds = 0.0
        self._amid = False
        self._peak = 0

    @property
    def alive(self) -> bool:
        """Return whether it can be asked."""
        if self._amid:  # and nobody takes the rest of the output
            self.end()
        return self._child is not None

    @property
    def peak_bytes(self) -> int:
        """Return the most memory that it has held so far, without what it shares with this process."""
        if self._child is not None:
            shared = sum(status_bytes(self._child.id, name) for name in ("RssShmem", "RssFile"))
            self._peak = max(self._peak, status_bytes(self._child.id, "VmHWM") - shared)
        return self._peak

    def open(self, question: dict[str, object], model: bytes, seconds: float) -> StrictTable:
        """Have it open a model; return the answer.

        Raises:
            IntegrityError: The network crashes it, or takes more than the seconds, or more memory than it may.
            ZooError: As the engine raises.
        """
        descriptor = anonymous_file()
        try:
            with open(descriptor, "wb", closefd=False) as stream:
                stream.write(model)
            return self._ask(question, seconds, files=(descriptor, self._shared.descriptor))
        finally:
            os.close(descriptor)

    def compute(
        self, question: dict[str, object], pieces: Iterable[FloatArray], size: int, seconds: float
    ) -> StrictTable:
        """Have it compute an input that comes in pieces; return what it says of the output.

        Args:
            question: What the pieces are, and what is wanted.
            pieces: Of the input, (C, rows, W) or (n,).
            size: Bytes of the largest piece.
            seconds: For all of it.

        Raises:
            InputError: A piece is too large.
            ZooError: As for :meth:`open`, or as `pieces` raises.
        """
        self._check_size(size)
        return self._ask(question, seconds, pieces, size)

    def outputs(
        self,
        shapes: Sequence[tuple[int, ...]],
        at_once: int,
        window: tuple[int, ...] | None,
        seconds: float,
        finish: Finish | None = None,
    ) -> Iterator[npt.NDArray[Any]]:
        """Return pieces of the output that it has described, each until the next is asked for.

        Args:
            shapes: Of the pieces, in order.
            at_once: Rows of a piece, or numbers without a window.
            window: First and last row and column; None for all numbers in a row.
            seconds: For each.
            finish: What is to be made of each piece, there; `shapes` are those of what is made.

        Raises:
            InputError: A piece is too large.
            IntegrityError: As for :meth:`open`, or as `finish` raises.
        """
        dtype = "float32" if finish is None else finish.dtype
        size = size_of(shapes, dtype)
        self._check_size(size)
        wish: dict[str, object] = {"wanted": True, "at_once": at_once, "window": window, "size": size}
        with self._whole():
            self._tell({**wish, "finish": None if finish is None else finish.described()}, seconds)
        self._amid = bool(shapes)
        return self._received(shapes, dtype)

    def decline(self) -> None:
        """Have it not send the output that it has described."""
        with self._whole():
            self._tell({"wanted": False}, 0)

    def _received(self, shapes: Sequence[tuple[int, ...]], dtype: str) -> Iterator[npt.NDArray[Any]]:
        with self._whole():
            try:
                yield from self._ring.receive(shapes, dtype)
            except BrokenOffError:
                raise self._error(self._answer(self._seconds)) from None
        self._amid = False

    def _ask(
        self,
        question: dict[str, object],
        seconds: float,
        pieces: Iterable[FloatArray] = (),
        size: int = 0,
        files: tuple[int, ...] = (),
    ) -> StrictTable:
        with self._whole():
            self._tell(question, seconds, files)
            self._ring.send(pieces, size)
            answer = self._answer(seconds)
        if "error" in answer:
            raise self._error(answer)
        return answer

    def _answer(self, seconds: float) -> StrictTable:
        assert self._child is not None
        text = receive_description(self._child.channel, time.monotonic() + seconds, self._watch)
        source = f"The answer of {self._engine}"
        return StrictTable(parse_json(text, source, error=PluginError), source, error=PluginError)

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """End the child unless the body is done, for it is of no use amid a message; and say what became of it."""
        try:
            yield
        except TimeoutError:
            self.end()
            raise IntegrityError(
                f"The network kept {self._engine} busy for more than {self._seconds:.0f} s, and was stopped.",
                hint="If you trust it, zoo run computes it without this limit:  --no-isolate",
            ) from None
        except OSError:
            raise self._fate() from None
        except BaseException:  # Ctrl-C, too
            self.end()
            raise

    def _tell(self, message: dict[str, object], seconds: float, files: tuple[int, ...] = ()) -> None:
        """Send a message; what follows may take so many seconds at a time."""
        self._seconds = seconds
        assert self._child is not None
        send_description(self._child.channel, message, files)

    def _wait(self, word: bytearray) -> None:
        assert self._child is not None
        fill(self._child.channel, word, time.monotonic() + self._seconds, self._watch)

    def _check_size(self, size: int) -> None:
        if size > self._ring.largest:
            raise InputError("A row of the picture is too long for the engine's process.")

    def end(self, grace: float = 0.0) -> int:
        """End the child, if it has not ended; return its exit status."""
        _ = self.peak_bytes
        child, self._child, self._amid = self._child, None, False
        return 0 if child is None else child.end(grace)

    def too_much(self) -> IntegrityError:
        """End it, and return the error for a network that takes more memory than it may."""
        assert self._memory is not None
        self.end()
        return IntegrityError(
            f"The network takes more than the {self._memory // 10**6} MB that it may, and was stopped.",
            hint=f"If you trust it, zoo run allows more:  --memory {2 * self._memory // 10**6}MB",
        )

    def _watch(self) -> None:
        """End a child that holds more memory than it may."""
        if self._memory is None or self._child is None:
            return
        if resident_bytes(self._child.id) > self._memory + _TOLERANCE:
            raise self.too_much()

    def _error(self, answer: StrictTable) -> ZooError:
        """The error that the child tells, as the class it was raised as."""
        kind = str(answer.get("kind"))
        message, hint = str(answer.get("error"))[:_LARGEST_TEXT], str(answer.get("hint", ""))[:_LARGEST_TEXT]
        if kind == "MemoryError" or (self._memory is not None and _ran_out(message)):
            if self._memory is None:
                return ZooError("The network does not fit in memory.")
            return self.too_much()
        if kind == "Exception":
            return PluginError(f"The engine {self._engine} failed: {message}")
        found: Any = getattr(errors, kind, None)
        known = isinstance(found, type) and issubclass(found, ZooError)
        error: ZooError = (found if known else ZooError)(message, hint=hint)
        return error

    def _fate(self) -> ZooError:
        child = self._child
        status = self.end(_GRACE_SECONDS)
        said = "" if child is None else child.last_words()
        if status == -signal.SIGKILL:
            return IntegrityError(f"The network had {self._engine} killed, mostly because memory ran out.")
        if status < 0:
            return IntegrityError(f"The network makes {self._engine} crash ({signal.Signals(-status).name}).")
        if _ran_out(said) and self._memory is not None:
            return self.too_much()
        return PluginError(f"The engine {self._engine} ended by itself with status {status}. {said}".strip())


class SpareProcess:
    """A child for the session that comes first; it is started now if it can be a copy of this process, else then."""

    def __init__(self) -> None:
        self._child = _start_child(copy=True) if can_fork() else None

    def take(self) -> ChildProcess | None:
        """Return the child, once; None if there is none."""
        child, self._child = self._child, None
        return child

    def close(self) -> None:
        """End a child that nobody took."""
        child = self.take()
        if child is not None:
            child.end()


def _start_child(*, copy: bool = False) -> ChildProcess:
    try:
        return ChildProcess(_TARGET, site=True, environment=environment_without_secrets(), copy=copy)
    except OSError as error:
        raise ZooError(f"The process of the engine did not start: {error}.") from error


def _ran_out(message: str) -> bool:
    """Whether an engine says that it could not have memory."""
    return any(
        each in message for each in ("bad_alloc", "MemoryError", "Failed to allocate", "not enough memory")
    )
