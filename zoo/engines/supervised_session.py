"""A session in a child process, which a network may crash, hang or fill: it costs that network and no more.

Tiles go there some rows at a time as they are cut, and what is computed comes back so as it is used, through a little
memory that both processes map: nothing is held twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from zoo.engines.engine_process import EngineProcess, SpareProcess
from zoo.engines.patience import seconds_to_open, seconds_to_run
from zoo.errors import IntegrityError, PluginError
from zoo.processes.ring import BLOCKS, flat_pieces, flat_shapes, row_shapes

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import DeviceProfile, Engine, FloatArray, InputSpec
    from zoo.engines.checked_session import Finish
    from zoo.schema import StrictTable

#: Seconds of a run, if its input does not allow more: so many times the longest so far, and so many more.
_TIMES, _MORE_SECONDS = 50, 60
#: Addresses that threads, the allocator and the tables of an engine take without using the memory.
_ADDRESSES = 512 << 20
#: Numbers of an array that come or go at once.
_PIECE = 1 << 16
_MOST_SIDES = 8


class SupervisedSession:
    """A model on an engine in a child process; one that ended is started again by the next run.

    Args:
        engine: Its class must be importable.
        model: Returns the bytes of the model, whenever a child is started.
        profile: Of the device.
        threads: Of the engine; 0 for those of the profile.
        spec: The input of the network.
        digest: The model's sha256.
        memory: Bytes that the child may hold; None for any number.
        spare: May hold a child that was started beforehand.

    Raises:
        ZooError: As the engine raises; or the network crashes it, or takes too much memory, while it is loaded.
    """

    def __init__(
        self,
        engine: Engine,
        model: Callable[[], bytes],
        profile: DeviceProfile,
        *,
        threads: int = 0,
        spec: InputSpec | None = None,
        digest: str | None = None,
        memory: int | None = None,
        spare: SpareProcess | None = None,
    ) -> None:
        self._engine, self._model, self._memory = engine, model, memory
        plain = dataclasses.replace(profile, gaps=(), sources={}, software={}, power_sensors=())
        assert memory is None or memory > 0
        addresses = None
        if memory is not None and engine.limit_addresses:
            addresses = memory + (profile.reserve_mb << 20) + _ADDRESSES
        self._question = {
            "engine": f"{type(engine).__module__}:{type(engine).__qualname__}",
            "threads": threads,
            "profile": dataclasses.asdict(plain),
            "spec": None if spec is None else dataclasses.asdict(spec),
            "digest": digest,
            "memory": addresses,
        }
        self.most_side: int | None = None
        self._longest = 0.0
        self._peak = 0
        self._process = self._start(spare)

    @property
    def peak_bytes(self) -> int:
        """Return the most memory that the child has held so far, without what it shares with this process."""
        self._peak = max(self._peak, self._process.peak_bytes)
        return self._peak

    def close(self) -> None:
        """End the child."""
        self._process.end()

    def run(self, inputs: FloatArray) -> FloatArray:
        """Run one batch.

        Args:
            inputs: (N, C, H, W).

        Returns:
            The main output, (N, C, H, W) or (N, classes).

        Raises:
            InputError: The network does not take the shape.
            IntegrityError: The network crashes the engine, takes too long, or more memory than it may.
            ZooError: The engine fails.
        """
        return self._whole(inputs)[0]

    def run_all(self, inputs: FloatArray) -> dict[str, FloatArray]:
        """Run one batch and return all outputs by name; errors are those of :meth:`run`.

        Args:
            inputs: (N, C, H, W).
        """
        flat, answer = self._whole(inputs, everything=True)
        outputs, begin = {}, 0
        for name, shape in _parts(answer.get("parts")):
            end = begin + math.prod(shape)
            if end > flat.size:
                break
            outputs[name], begin = flat[begin:end].reshape(shape), end
        if begin != flat.size or not outputs:
            self._process.end()
            raise PluginError(f"{self._engine.id} does not say which outputs it returns.")
        return outputs

    def run_rows(
        self,
        source: Iterable[FloatArray],
        shape: tuple[int, ...],
        rows: slice,
        columns: slice,
        at_once: int,
        check: Callable[[tuple[int, ...], str], None],
        finish: Finish | None = None,
    ) -> Iterator[npt.NDArray[Any]]:
        """Run one input, and return a window of the output some rows at a time; errors are those of :meth:`run`.

        Args:
            source: The input, some rows at a time: (C, rows, W), as many as in the first in all but the last.
            shape: Of the whole input, (1, C, H, W).
            rows: Of the window, both ends stated.
            columns: Of the window, both ends stated.
            at_once: Rows of a part of the output; the last may have fewer.
            check: Refuses a shape or a type that the output must not have, with an error.
            finish: What is to be made of the rows, by the child.

        Returns:
            (C, rows, columns), each until the next is asked for; or what is made of them, (rows, columns, C), to keep.
        """
        parts = iter(source)
        first = next(parts)
        question: dict[str, object] = {"shape": shape, "rows": True, "at_once": first.shape[1], "all": False}
        described, answer, limit = self._compute(
            shape, question, itertools.chain([first], parts), first.nbytes
        )
        with self._declining():
            check(described, str(answer.get("dtype")))
            if len(described) != 4 or rows.stop > described[2] or columns.stop > described[3]:
                raise IntegrityError(f"The network gives {described}, which is not a picture.")
        height, width = rows.stop - rows.start, columns.stop - columns.start
        wanted = row_shapes(described[1], height, width, at_once if finish is None else BLOCKS * at_once)
        if finish is not None:
            wanted = [(some, width, channels) for channels, some, _ in wanted]
        window = (rows.start, rows.stop, columns.start, columns.stop)
        pieces = self._process.outputs(wanted, at_once, window, limit, finish)
        if finish is None:
            return pieces
        # In the parts in which they come where nothing is in between: files are the same to the byte. Copied, since
        # pictures are put together of parts, and the memory of a piece becomes that of a later one.
        return (
            piece[first : first + at_once].copy()
            for piece in pieces
            for first in range(0, len(piece), at_once)
        )

    # ------------------------------------------------------------------------------------------------ the child

    def _whole(self, inputs: FloatArray, *, everything: bool = False) -> tuple[FloatArray, StrictTable]:
        """Ask the child for the main output, or for all as one row of numbers; also what it says about them."""
        import numpy as np

        given = np.ascontiguousarray(inputs, dtype=np.float32)
        question = {"shape": given.shape, "rows": False, "at_once": _PIECE, "all": everything}
        shape, answer, limit = self._compute(
            given.shape, question, flat_pieces(given, _PIECE), 4 * min(_PIECE, given.size)
        )
        with self._declining():
            if answer.get("dtype") != "float32":
                raise IntegrityError(f"The network gives {answer.get('dtype')} numbers; float32 is needed.")
            if self._memory is not None and 4 * math.prod(shape) > self._memory:
                raise self._process.too_much()
        outputs: FloatArray = np.empty(shape, np.float32)
        flat, begin = outputs.reshape(-1), 0
        for piece in self._process.outputs(flat_shapes(flat.size, _PIECE), _PIECE, None, limit):
            flat[begin : begin + piece.size] = piece
            begin += piece.size
        return outputs, answer

    def _compute(
        self, given: tuple[int, ...], question: dict[str, object], pieces: Iterable[FloatArray], size: int
    ) -> tuple[tuple[int, ...], StrictTable, float]:
        """Have the child compute a (shape of an) input; return the output's shape, all it says, and the time it had."""
        if not self._process.alive:
            self._peak = self.peak_bytes
            self._process = self._start(None)
        limit = max(seconds_to_run(given), _TIMES * self._longest + _MORE_SECONDS)
        started = time.monotonic()
        answer = self._process.compute(question, pieces, size, limit)
        self._longest = max(self._longest, time.monotonic() - started)
        with self._declining():
            shape = tuple(int(side) for side in answer.numbers("shape", longest=_MOST_SIDES))
            if any(side < 0 for side in shape):
                raise PluginError(f"{self._engine.id} states an output of {shape}.")
        return shape, answer, limit

    @contextlib.contextmanager
    def _declining(self) -> Iterator[None]:
        """If the body refuses the output, do not have it sent."""
        try:
            yield
        except BaseException:
            if self._process.alive:
                self._process.decline()
            raise

    def _start(self, spare: SpareProcess | None) -> EngineProcess:
        process = EngineProcess(self._engine.id, self._memory, spare.take() if spare is not None else None)
        try:
            model = self._model()
            answer = process.open(
                self._question, model, seconds_to_open(len(model), self._engine.load_seconds)
            )
            stated = answer.get("most_side") is not None
            self.most_side = answer.integer("most_side", least=1) if stated else None
        except BaseException:
            process.end()
            raise
        return process


def _parts(stated: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The names and shapes of outputs as a child states them; none if they are malformed."""
    try:
        found = [(str(name), tuple(int(side) for side in shape)) for name, shape in stated]
    except (TypeError, ValueError):
        return []
    return found if all(side >= 0 for _, shape in found for side in shape) else []


def can_supervise(engine: Engine) -> bool:
    """Return whether a child process could import an engine's class."""
    return "<locals>" not in type(engine).__qualname__ and type(engine).__module__ != "__main__"
