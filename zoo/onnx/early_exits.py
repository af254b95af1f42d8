"""The thresholds of a network with early exits, in its file.

Exit k is left by images whose classes have an entropy, in nats, below the initializer ``decision_k.entropy``: one
float32, in the main graph or in a branch.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from zoo.errors import IntegrityError
from zoo.onnx.fields import FLOAT
from zoo.onnx.graph import Graph, Tensor, read_model

_NAME = re.compile(r"(?:.*\.)?decision_([1-9]\d{0,2})\.entropy")
_BYTES = 4


def exit_entropies(data: bytes) -> list[float]:
    """Return the threshold of each exit, in order; empty for a network without exits.

    Raises:
        IntegrityError: The file is damaged.
    """
    return [float(struct.unpack("<f", data[begin : begin + _BYTES])[0]) for begin in _places(data)]


def with_exit_entropies(data: bytes, entropies: Sequence[float]) -> bytes:
    """Return the file with other thresholds, one for each exit.

    Raises:
        IntegrityError: The file is damaged.
    """
    changed = bytearray(data)
    for begin, entropy in zip(_places(data), entropies, strict=True):
        changed[begin : begin + _BYTES] = struct.pack("<f", entropy)
    return bytes(changed)


def _places(data: bytes) -> list[int]:
    """Where the bytes of each threshold begin."""
    found: dict[int, int] = {}
    for tensor in _tensors(read_model(data)):
        named = _NAME.fullmatch(tensor.name)
        if named is None:
            continue
        number, content = int(named[1]), tensor.content
        if (
            tensor.type != FLOAT
            or content is None
            or content.end - content.begin != _BYTES
            or number in found
        ):
            raise IntegrityError(f"The model file is damaged: {tensor.name[:60]!a} is not one number.")
        found[number] = content.begin
    if sorted(found) != list(range(1, len(found) + 1)):
        raise IntegrityError(
            "The model file is damaged: the thresholds of its exits are not numbered 1, 2, ..."
        )
    return [found[number] for number in sorted(found)]


def _tensors(graph: Graph) -> Iterator[Tensor]:
    yield from graph.initializers
    for node in graph.nodes:
        for inner in node.graphs:
            yield from _tensors(inner)
