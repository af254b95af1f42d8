"""The child process in which an engine computes the network of a stranger; :mod:`zoo.engines.supervised_session` asks.

What the network does to the engine, and to the memory, ends here.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.artifacts.golden import all_outputs
from zoo.contracts import DeviceProfile, InputSpec
from zoo.errors import ZooError
from zoo.machine.memory import return_heap
from zoo.processes.channel import LENGTH, send_description
from zoo.processes.child_limits import Ceiling, prepare_child
from zoo.processes.ring import (
    Ring,
    finished_pieces,
    flat_pieces,
    flat_shapes,
    row_pieces,
    row_shapes,
)
from zoo.processes.shared_memory import SharedMemory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import Session

READY = {"ready": True}
#: Bytes of the memory through which arrays come and go; only what is used of it is taken.
RING = 64 << 20
#: The model and that memory.
_FILES = 2


def main(descriptor: str, parent: str) -> None:
    """Open a model and compute it until the parent closes the socket.

    Args:
        descriptor: Number of the socket.
        parent: Id of the parent's process.
    """
    prepare_child(int(parent))
    with socket.socket(fileno=int(descriptor)) as channel, contextlib.suppress(ConnectionError):
        question, (model, shared) = _receive(channel, _FILES)
        ring = Ring(SharedMemory(RING, shared), channel)
        session: Session | None = None
        with _told(channel):
            session = _open(question, model)
        if session is None:
            return
        return_heap()  # much of what loading took
        send_description(channel, {**READY, "most_side": getattr(session, "most_side", None)})
        while True:
            _answer(channel, ring, session)


@contextlib.contextmanager
def _told(channel: socket.socket) -> Iterator[None]:
    """Tell the parent of an error."""
    try:
        yield
    except ConnectionError:
        raise
    except ZooError as error:
        kind = type(error).__name__
        send_description(channel, {"error": error.message, "hint": error.hint, "kind": kind})
    except MemoryError:
        send_description(channel, {"error": "", "kind": "MemoryError"})
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0][:300]
        send_description(channel, {"error": f"{type(error).__name__}: {first}", "kind": "Exception"})


def _open(question: dict[str, Any], model: int) -> Session:
    """Import the engine, limit this process, and open the model."""
    import numpy  # noqa: F401 - what every engine needs is there before the limits are

    module, _, name = question["engine"].partition(":")
    engine = getattr(import_module(module), name)()
    engine.version()
    if question["memory"] is not None:
        Ceiling().limit_memory(question["memory"])
    from zoo.engines.opening import open_session_for

    profile = DeviceProfile(**_tuples(question["profile"]))
    spec = None if question["spec"] is None else InputSpec(**_tuples(question["spec"]))
    with open(model, "rb", buffering=0) as stream:
        stream.seek(0)
        data = stream.read()
    return open_session_for(
        engine, data, profile, threads=question["threads"], spec=spec, digest=question["digest"]
    )


def _answer(channel: socket.socket, ring: Ring, session: Session) -> None:
    """Take an input, compute, describe the output, and send what is wished of it."""
    import numpy as np

    question, _ = _receive(channel)
    inputs = _received_inputs(ring, question)
    parts: list[tuple[str, tuple[int, ...]]] = []
    outputs = None
    with _told(channel):
        if question["all"]:
            outputs, parts = _all_outputs(session, inputs)
        else:
            outputs = np.asarray(session.run(inputs))
        send_description(channel, {"shape": outputs.shape, "dtype": outputs.dtype.name, "parts": parts})
    del inputs
    if outputs is None:
        return
    wish, _ = _receive(channel)
    if not wish["wanted"]:
        return
    if wish["window"] is None:
        ring.send(flat_pieces(outputs, wish["at_once"]), 4 * min(wish["at_once"], outputs.size))
    else:
        top, bottom, left, right = wish["window"]
        picture = outputs[0, :, top:bottom, left:right]
        at_once = wish["at_once"]
        if wish["finish"] is None:
            ring.send(row_pieces(picture, at_once), picture[:, :at_once].size * 4)
            return
        module, _, name = wish["finish"]["target"].partition(":")
        finish = getattr(import_module(module), name)(wish["finish"])
        with _told(channel):
            ring.send(finished_pieces(picture, finish, at_once), wish["size"])


def _received_inputs(ring: Ring, question: dict[str, Any]) -> npt.NDArray[np.float32]:
    import numpy as np

    inputs: npt.NDArray[np.float32] = np.empty(question["shape"], np.float32)
    at_once, begin = question["at_once"], 0
    if question["rows"]:
        _, channels, height, width = inputs.shape
        for piece in ring.receive(row_shapes(channels, height, width, at_once)):
            inputs[0, :, begin : begin + piece.shape[1]] = piece
            begin += piece.shape[1]
    else:
        flat = inputs.reshape(-1)
        for piece in ring.receive(flat_shapes(flat.size, at_once)):
            flat[begin : begin + piece.size] = piece
            begin += piece.size
    return inputs


def _all_outputs(
    session: Session, inputs: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], list[tuple[str, tuple[int, ...]]]]:
    """Compute all outputs; return their numbers one after the other, and the name and shape of each."""
    import numpy as np

    found = all_outputs(session, inputs)
    values = {name: np.asarray(value, np.float32) for name, value in found.items()}
    flat = np.concatenate([value.ravel() for value in values.values()])
    return flat, [(name, value.shape) for name, value in values.items()]


def _receive(channel: socket.socket, most_files: int = 0) -> tuple[dict[str, Any], list[int]]:
    """Return the next message, and the descriptors that come with it; raise ConnectionError at the end."""
    message, files, _, _ = socket.recv_fds(channel, LENGTH, most_files)
    message += _exactly(channel, LENGTH - len(message))
    content: dict[str, Any] = json.loads(_exactly(channel, int.from_bytes(message, "little")))
    return content, files


def _exactly(channel: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        more = channel.recv(count - len(content))
        if not more:
            raise ConnectionError("it ended")
        content += more
    return content


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
