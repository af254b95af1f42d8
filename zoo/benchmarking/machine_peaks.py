"""The machine's peaks: the best rates at which its engines multiply, and at which its memory is read and written."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from zoo.engines.opening import open_session_for
from zoo.machine.processors import thread_count
from zoo.onnx.graph import FLOAT, INT8, encode_node, encode_tensor
from zoo.onnx.protobuf import encode_bytes, encode_number

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile, Engine

Arithmetic = Literal["int8", "float32"]

#: A chain of convolutions of one pixel, which are matrix products of 1024 x 1024 by 1024 x 1024.
_CHANNELS, _SIDE, _LAYERS = 1024, 32, 6
_RUNS, _LEAST_RUNS, _SECONDS = 12, 3, 1.5
#: Far more than a cache holds.
_COPIED_BYTES = 128 * 2**20
_COPIES = 6


def peak_gmacs(engine: Engine, arithmetic: Arithmetic, profile: DeviceProfile, threads: int = 0) -> float:
    """10^9 multiply-accumulates a second of large matrix products on `engine`, the best of up to a dozen runs.

    The products come one after another as a network's layers do, in int8 between quantizations. Raises ZooError if
    the engine does not run them.
    """
    import numpy as np

    session = open_session_for(engine, _products(arithmetic), profile, threads=threads)
    inputs = np.ones((1, _CHANNELS, _SIDE, _SIDE), np.float32)
    seconds = _best(lambda: session.run(inputs), _RUNS)
    return _LAYERS * _CHANNELS**2 * _SIDE**2 / seconds / 1e9


def bandwidth_gbs(profile: DeviceProfile, threads: int = 0) -> float:
    """10^9 bytes a second, read and written alike, that the processor copies in memory; the best of up to six."""
    import numpy as np

    count = thread_count(threads, profile)
    source = np.ones((count, _COPIED_BYTES // count), np.uint8)
    target = np.empty_like(source)
    with ThreadPoolExecutor(count) as pool:
        seconds = _best(lambda: list(pool.map(np.copyto, target, source)), _COPIES)
    return 2 * source.nbytes / seconds / 1e9


def _best(work: Callable[[], object], runs: int) -> float:
    """The shortest of `runs` times, in seconds; what makes one longer is other work on the machine.

    A slow machine gets fewer runs, but three.
    """
    times: list[float] = []
    while len(times) < runs and (len(times) < _LEAST_RUNS or sum(times) < _SECONDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _products(arithmetic: Arithmetic) -> bytes:
    """A model of the chain, from "0" to "end"."""
    import numpy as np

    whole = arithmetic == "int8"
    weight = np.ones((_CHANNELS, _CHANNELS, 1, 1), np.int8 if whole else np.float32)
    graph = encode_bytes(2, b"peak")
    graph += encode_tensor("w", INT8 if whole else FLOAT, weight.shape, weight.tobytes())
    values = ["0", *(f"c{layer}" for layer in range(1, _LAYERS)), "end"]
    if whole:
        graph += encode_tensor("scale", FLOAT, [], np.float32(1).tobytes())
        graph += encode_tensor("zero", INT8, [], b"\0")
        graph += encode_node("DequantizeLinear", ["w", "scale", "zero"], "weights")
        graph += _rounded("0")
    for before, after in pairwise(values):
        if whole:
            graph += encode_node("Conv", [f"{before}_", "weights"], f"{after}." if after == "end" else after)
            graph += _rounded(f"{after}." if after == "end" else after, after if after == "end" else "")
        else:
            graph += encode_node("Conv", [before, "w"], after)
    graph += encode_bytes(11, _value("0")) + encode_bytes(12, _value("end"))
    opset = encode_bytes(1, b"") + encode_number(2, 17)
    return encode_number(1, 8) + encode_bytes(7, graph) + encode_bytes(8, opset)


def _rounded(value: str, name: str = "") -> bytes:
    """A value through int8 and back, called `name`, or as it was with an underscore."""
    levels = f"{value}_levels"
    return encode_node("QuantizeLinear", [value, "scale", "zero"], levels) + encode_node(
        "DequantizeLinear", [levels, "scale", "zero"], name or f"{value}_"
    )


def _value(name: str) -> bytes:
    """A ValueInfoProto of a float32 tensor of the chain."""
    sides = b"".join(encode_bytes(1, encode_number(1, side)) for side in (1, _CHANNELS, _SIDE, _SIDE))
    tensor = encode_number(1, FLOAT) + encode_bytes(2, sides)
    return encode_bytes(1, name.encode()) + encode_bytes(2, encode_bytes(1, tensor))
