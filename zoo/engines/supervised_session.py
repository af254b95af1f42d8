"""A session in a child process, which a network may crash, hang or fill: it costs that network and no more.

Tiles go through memory that both processes map, so that what it costs is one copy of the input.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo import errors
from zoo.errors import IntegrityError, PluginError, ZooError
from zoo.machine.memory import status_bytes
from zoo.processes.channel import fill, receive_description, send_description
from zoo.processes.child import ChildProcess
from zoo.processes.launch import environment_without_secrets
from zoo.processes.shared_buffer import BufferPool, SharedBuffer
from zoo.schema import StrictTable, parse_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import DeviceProfile, Engine, FloatArray, InputSpec

_TARGET = "zoo.engines.engine_worker:main"
#: Seconds for the child to import an engine and load a network; TensorRT builds its engine meanwhile.
_OPEN_SECONDS = 3600
#: Seconds of the first run; of later ones, so many times the longest so far, and so many more.
_FIRST_SECONDS, _TIMES, _MORE_SECONDS = 900, 50, 60
#: For a child that stopped answering to end by itself, so that its exit status tells why.
_GRACE_SECONDS = 1
#: Addresses that threads, the allocator and the tables of an engine take without using the memory.
_ADDRESSES = 512 << 20
#: What a child may hold beyond its limit before it is ended: pages come and go in between.
_TOLERANCE = 24 << 20
_LARGEST_TEXT = 10_000
_MOST_SIDES = 8


class SupervisedSession:
    """A model on an engine in a child process; one that ended is started again by the next run.

    Args:
        engine: Its class must be importable.
        model: Bytes of the model.
        profile: Of the device.
        threads: Of the engine; 0 for those of the profile.
        spec: The input of the network.
        digest: The model's sha256.
        expected: From the shape of an input to that of its output, None if it is not known.
        memory: Bytes that the child may hold; None for any number.

    Raises:
        ZooError: As the engine raises; or the network crashes it, or takes too much memory, while it is loaded.
    """

    def __init__(
        self,
        engine: Engine,
        model: bytes,
        profile: DeviceProfile,
        *,
        threads: int = 0,
        spec: InputSpec | None = None,
        digest: str | None = None,
        expected: Callable[[tuple[int, ...]], tuple[int, ...] | None] | None = None,
        memory: int | None = None,
    ) -> None:
        self._engine, self._model, self._expected, self._memory = engine, model, expected, memory
        plain = dataclasses.replace(profile, gaps=(), sources={}, software={}, power_sensors=())
        limited = memory is not None and engine.limit_addresses
        assert memory is None or memory > 0
        self._question = {
            "engine": f"{type(engine).__module__}:{type(engine).__qualname__}",
            "threads": threads,
            "profile": dataclasses.asdict(plain),
            "spec": None if spec is None else dataclasses.asdict(spec),
            "digest": digest,
            "memory": memory + (profile.reserve_mb << 20) + _ADDRESSES
            if limited and memory is not None
            else None,
        }
        self.most_side: int | None = None
        self._child: ChildProcess | None = None
        self._buffers = BufferPool()
        self._longest = 0.0
        self._peak = 0
        self._start()

    @property
    def peak_bytes(self) -> int:
        """Return the most memory that the child has held so far, without what it shares with this process."""
        if self._child is not None:
            own = status_bytes(self._child.id, "VmHWM") - status_bytes(self._child.id, "RssShmem")
            self._peak = max(self._peak, own)
        return self._peak

    def close(self) -> None:
        """End the child."""
        _ = self.peak_bytes
        self._end()

    def run(self, inputs: FloatArray) -> FloatArray:
        """Run one batch; the output may be memory that the child has written, and stays as it is.

        Args:
            inputs: (N, C, H, W).

        Returns:
            The main output, (N, C, H, W) or (N, classes).

        Raises:
            InputError: The network does not take the shape.
            IntegrityError: The network crashes the engine, takes too long, or more memory than it may.
            ZooError: The engine fails.
        """
        wanted = None if self._expected is None else self._expected(inputs.shape)
        return self._compute(inputs, wanted)[0]

    def run_all(self, inputs: FloatArray) -> dict[str, FloatArray]:
        """Run one batch and return all outputs by name; errors are those of :meth:`run`.

        Args:
            inputs: (N, C, H, W).
        """
        flat, answer = self._compute(inputs, None, everything=True)
        outputs, begin = {}, 0
        for name, shape in _parts(answer.get("parts")):
            end = begin + math.prod(shape)
            if end > flat.size:
                break
            outputs[name], begin = flat[begin:end].reshape(shape), end
        if begin != flat.size or not outputs:
            self._end()
            raise PluginError(f"{self._engine.id} does not say which outputs it returns.")
        return outputs

    def _compute(
        self, inputs: FloatArray, wanted: tuple[int, ...] | None, *, everything: bool = False
    ) -> tuple[FloatArray, StrictTable]:
        """Ask the child for the main output or for all, flat; also what it says about them."""
        import numpy as np

        if self._child is None:
            self._start()
        given = np.ascontiguousarray(inputs, dtype=np.float32)
        source = self._buffers.take(given.nbytes)
        target = None if wanted is None else self._buffers.take(4 * math.prod(wanted))
        np.frombuffer(source.view, np.float32, given.size)[...] = given.ravel()
        question = {
            "input": self._buffers.number(source),
            "shape": given.shape,
            "output": None if target is None else self._buffers.number(target),
            "expected": wanted,
            "all": everything,
        }
        limit = max(_FIRST_SECONDS if not self._longest else 0, _TIMES * self._longest + _MORE_SECONDS)
        started = time.monotonic()
        try:
            answer = self._ask(question, limit)
            outputs = self._outputs(answer, target, wanted, limit)
        finally:
            self._buffers.release(source)
            if target is not None:
                self._buffers.release(target)
        self._longest = max(self._longest, time.monotonic() - started)
        return outputs, answer

    # ------------------------------------------------------------------------------------------------ the child

    def _start(self) -> None:
        self._buffers = BufferPool()
        try:
            self._child = ChildProcess(_TARGET, site=True, environment=environment_without_secrets())
        except OSError as error:
            raise ZooError(f"The process of the engine did not start: {error}.") from error
        model = self._buffers.take(len(self._model))
        model.view[: len(self._model)] = self._model
        answer = self._ask({**self._question, "model": self._buffers.number(model)}, _OPEN_SECONDS)
        self._buffers.forget(model)
        self.most_side = answer.integer("most_side", least=1) if answer.get("most_side") is not None else None

    def _ask(self, question: dict[str, object], seconds: float) -> StrictTable:
        """Send a question; return the answer unless it is an error."""
        assert self._child is not None
        new, files, dropped = self._buffers.news()
        try:
            send_description(self._child.channel, {**question, "new": new, "dropped": dropped}, files)
            text = receive_description(self._child.channel, time.monotonic() + seconds, self._watch)
            source = f"The answer of {self._engine.id}"
            answer = StrictTable(parse_json(text, source, error=PluginError), source, error=PluginError)
        except TimeoutError:
            self._end()
            raise IntegrityError(
                f"The network kept {self._engine.id} busy for more than {seconds:.0f} s."
            ) from None
        except OSError:
            raise self._fate() from None
        except BaseException:  # Ctrl-C, too: a child in the middle of an answer is of no more use
            self._end()
            raise
        if "error" in answer:
            raise self._error(answer)
        return answer

    def _outputs(
        self, answer: StrictTable, target: SharedBuffer | None, wanted: tuple[int, ...] | None, seconds: float
    ) -> FloatArray:
        import numpy as np

        shape = tuple(int(side) for side in answer.numbers("shape", longest=_MOST_SIDES))
        if answer.get("dtype") != "float32" or any(side < 0 for side in shape):
            self._end()
            raise IntegrityError(f"The network gives {answer.get('dtype')} numbers; float32 is needed.")
        if answer.get("written"):
            if target is None or shape != wanted:
                self._end()
                raise PluginError(f"{self._engine.id} gives {shape} where {wanted} was asked for.")
            return self._buffers.lend(target, shape)  # until nothing refers to it
        size = 4 * math.prod(shape)
        if self._memory is not None and size > self._memory:
            self._end()
            raise self._too_much()
        outputs: npt.NDArray[np.float32] = np.empty(shape, np.float32)
        try:
            if size:
                assert self._child is not None
                fill(self._child.channel, outputs.data.cast("B"), time.monotonic() + seconds, self._watch)
        except OSError:
            raise self._fate() from None
        return outputs

    def _watch(self) -> None:
        """End a child that holds more memory than it may."""
        if self._memory is None or self._child is None:
            return
        if status_bytes(self._child.id, "VmRSS") > self._memory + _TOLERANCE:
            self._end()
            raise self._too_much()

    def _too_much(self) -> IntegrityError:
        assert self._memory is not None
        return IntegrityError(
            f"The network takes more than the {self._memory // 10**6} MB that it may, and was stopped.",
            hint="If you trust it, allow more:  --memory 2GB",
        )

    def _error(self, answer: StrictTable) -> ZooError:
        """The error that the child tells, as the class it was raised as."""
        kind = str(answer.get("kind"))
        message, hint = str(answer.get("error"))[:_LARGEST_TEXT], str(answer.get("hint", ""))[:_LARGEST_TEXT]
        if kind == "MemoryError" or (self._memory is not None and _ran_out(message)):
            return (
                self._too_much()
                if self._memory is not None
                else ZooError("The network does not fit in memory.")
            )
        if kind == "Exception":
            return PluginError(f"The engine {self._engine.id} failed: {message}")
        found: Any = getattr(errors, kind, None)
        known = isinstance(found, type) and issubclass(found, ZooError)
        error: ZooError = (found if known else ZooError)(message, hint=hint)
        return error

    def _fate(self) -> ZooError:
        """Return what happened to a child that ended, and forget it."""
        child = self._child
        status = self._end(_GRACE_SECONDS)
        said = "" if child is None else child.last_words()
        if status == -signal.SIGKILL:
            return IntegrityError(f"The network had {self._engine.id} killed, mostly because memory ran out.")
        if status < 0:
            return IntegrityError(
                f"The network makes {self._engine.id} crash ({signal.Signals(-status).name})."
            )
        if _ran_out(said) and self._memory is not None:
            return self._too_much()
        return PluginError(
            f"The engine {self._engine.id} ended by itself with status {status}. {said}".strip()
        )

    def _end(self, grace: float = 0.0) -> int:
        """End the child, if there is one; return its exit status."""
        child, self._child = self._child, None
        return 0 if child is None else child.end(grace)


def _parts(stated: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The names and shapes of outputs as a child states them; none if they are malformed."""
    try:
        found = [(str(name), tuple(int(side) for side in shape)) for name, shape in stated]
    except (TypeError, ValueError):
        return []
    return found if all(side >= 0 for _, shape in found for side in shape) else []


def _ran_out(message: str) -> bool:
    """Whether an engine says that it could not have memory."""
    return any(
        each in message for each in ("bad_alloc", "MemoryError", "Failed to allocate", "not enough memory")
    )


def can_supervise(engine: Engine) -> bool:
    """Return whether a child process could import an engine's class."""
    return "<locals>" not in type(engine).__qualname__ and type(engine).__module__ != "__main__"
