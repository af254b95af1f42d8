"""The child process in which an engine computes the network of a stranger; :mod:`zoo.engines.supervised_session` asks.

What the network does to the engine, and to the memory, ends here.
"""

from __future__ import annotations

import json
import socket
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.artifacts.golden import all_outputs
from zoo.contracts import DeviceProfile, InputSpec
from zoo.errors import ZooError
from zoo.processes.channel import LARGEST_DESCRIPTION, LENGTH, send_description
from zoo.processes.child_limits import Ceiling, prepare_child
from zoo.processes.shared_buffer import SharedBuffer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import Session

#: File descriptors that may come with a question.
_MOST_FILES = 3
READY = {"ready": True}


def main(descriptor: str, parent: str) -> None:
    """Open a model and compute it until the parent closes the socket.

    Args:
        descriptor: Number of the socket.
        parent: Id of the parent's process.
    """
    prepare_child(int(parent))
    buffers: dict[int, SharedBuffer] = {}
    session: Session | None = None
    with socket.socket(fileno=int(descriptor)) as channel:
        while True:
            question = _receive(channel, buffers)
            if question is None:
                return
            try:
                if "engine" in question:
                    session = _open(question, buffers)
                    send_description(channel, {**READY, "most_side": getattr(session, "most_side", None)})
                    continue
                assert session is not None
                parts: list[tuple[str, tuple[int, ...]]] = []
                if question.get("all"):
                    (outputs, parts), written = _run_all(session, question, buffers), False
                else:
                    outputs, written = _run(session, question, buffers)
            except ZooError as error:
                kind = type(error).__name__
                send_description(channel, {"error": error.message, "hint": error.hint, "kind": kind})
            except MemoryError:
                send_description(channel, {"error": "", "kind": "MemoryError"})
            except Exception as error:
                first = (str(error).strip().splitlines() or [""])[0][:300]
                send_description(channel, {"error": f"{type(error).__name__}: {first}", "kind": "Exception"})
            else:
                about = {
                    "shape": outputs.shape,
                    "dtype": outputs.dtype.name,
                    "written": written,
                    "parts": parts,
                }
                send_description(channel, about)
                if not written and outputs.size:
                    channel.sendall(outputs.data.cast("B"))
                del outputs


def _open(question: dict[str, Any], buffers: dict[int, SharedBuffer]) -> Session:
    """Import the engine, limit this process, and open the model."""
    import numpy  # noqa: F401 - what every engine needs is there before the limits are

    module, _, name = question["engine"].partition(":")
    engine = getattr(import_module(module), name)()
    engine.version()
    if question["memory"] is not None:
        Ceiling().limit_memory(question["memory"])
    from zoo.engines.opening import open_session_for

    model = buffers.pop(question["model"])
    profile = DeviceProfile(**_tuples(question["profile"]))
    spec = None if question["spec"] is None else InputSpec(**_tuples(question["spec"]))
    data = model.view[: model.size]
    model.view.close()
    model.close()
    return open_session_for(
        engine, data, profile, threads=question["threads"], spec=spec, digest=question["digest"]
    )


def _run(
    session: Session, question: dict[str, Any], buffers: dict[int, SharedBuffer]
) -> tuple[npt.NDArray[np.float32], bool]:
    """Compute; return the outputs, and whether they are in the buffer that the question names."""
    import numpy as np

    inputs = _array(buffers[question["input"]], question["shape"])
    into = None
    if question["output"] is not None:
        into = _array(buffers[question["output"]], question["expected"])
        run_into = getattr(session, "run_into", None)
        if run_into is not None and run_into(inputs, into):
            return into, True
    outputs = np.ascontiguousarray(session.run(inputs))
    if into is not None and outputs.shape == into.shape and outputs.dtype == into.dtype:
        into[...] = outputs
        return into, True
    return outputs, False


def _run_all(
    session: Session, question: dict[str, Any], buffers: dict[int, SharedBuffer]
) -> tuple[npt.NDArray[np.float32], list[tuple[str, tuple[int, ...]]]]:
    """Compute all outputs; return their numbers one after the other, and the name and shape of each."""
    import numpy as np

    found = all_outputs(session, _array(buffers[question["input"]], question["shape"]))
    values = {name: np.asarray(value, np.float32) for name, value in found.items()}
    flat = np.concatenate([value.ravel() for value in values.values()])
    return flat, [(name, value.shape) for name, value in values.items()]


def _array(buffer: SharedBuffer, shape: list[int]) -> npt.NDArray[np.float32]:
    import numpy as np

    return np.frombuffer(buffer.view, np.float32, int(np.prod(shape))).reshape(shape)


def _receive(channel: socket.socket, buffers: dict[int, SharedBuffer]) -> dict[str, Any] | None:
    """Return the next question, with the buffers that come with it and without those it gives up; None at the end."""
    message, files, _, _ = socket.recv_fds(channel, LENGTH + LARGEST_DESCRIPTION, _MOST_FILES)
    if not message:
        return None
    while len(message) < LENGTH or len(message) < LENGTH + int.from_bytes(message[:LENGTH], "little"):
        more = channel.recv(LARGEST_DESCRIPTION)
        if not more:
            return None
        message += more
    question: dict[str, Any] = json.loads(message[LENGTH:])
    for number in question["dropped"]:
        buffers.pop(number).close()
    for (number, size), file in zip(question["new"], files, strict=True):
        buffers[number] = SharedBuffer(size, file)
    return question


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
