"""The machine's peaks: the best rates at which its engines multiply, and at which its memory is read and written."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from zoo.engines.opening import open_session_for
from zoo.machine.processors import thread_count
from zoo.onnx.encoding import encode_model, encode_node, encode_tensor
from zoo.onnx.fields import FLOAT, INT8
from zoo.onnx.graph import ValueInfo

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile, Engine

Arithmetic = Literal["int8", "float32"]

#: A chain of 1x1 convolutions, which are matrix products of 1024x1024 by 1024x1024.
_CHANNELS, _SIDE, _LAYERS = 1024, 32, 6
_OPSET = 17
_RUNS, _LEAST_RUNS = 12, 3
#: Seconds after which no further run begins.
LONGEST_SECONDS = 1.5
#: Far more than a cache holds.
COPIED_BYTES = 128 * 2**20
_COPIES = 6


def peak_gmacs(engine: Engine, arithmetic: Arithmetic, profile: DeviceProfile, threads: int = 0) -> float:
    """Measure the fastest of up to a dozen runs of large matrix products on `engine`.

    The products follow each other as the layers of a network do, in int8 between quantizations.

    Args:
        engine: What computes the products.
        arithmetic: The type they are computed in.
        profile: Device profile that the engine is opened for.
        threads: Threads of the engine; 0 for those of the profile.

    Returns:
        10^9 multiply-accumulates per second.

    Raises:
        ZooError: The engine does not run the products.
    """
    import numpy as np

    session = open_session_for(engine, matrix_products(arithmetic), profile, threads=threads)
    inputs = np.ones((1, _CHANNELS, _SIDE, _SIDE), np.float32)
    seconds = _best(lambda: session.run(inputs), _RUNS)
    return _LAYERS * _CHANNELS**2 * _SIDE**2 / seconds / 1e9


def bandwidth_gbs(profile: DeviceProfile, threads: int = 0) -> float:
    """Measure the fastest of up to six copies in memory.

    Returns:
        10^9 bytes per second; a byte that is read and one that is written count alike.
    """
    import numpy as np

    count = thread_count(threads, profile)
    source = np.ones((count, COPIED_BYTES // count), np.uint8)
    target = np.empty_like(source)
    with ThreadPoolExecutor(count) as pool:
        seconds = _best(lambda: list(pool.map(np.copyto, target, source)), _COPIES)
    return 2 * source.nbytes / seconds / 1e9


def _best(work: Callable[[], object], runs: int) -> float:
    """Return the shortest of `runs` times in seconds: only other work on the machine makes one longer.

    A slow machine gets fewer runs, at least three.
    """
    times: list[float] = []
    while len(times) < runs and (len(times) < _LEAST_RUNS or sum(times) < LONGEST_SECONDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def matrix_products(arithmetic: Arithmetic) -> bytes:
    """Return an ONNX file of a chain of 1x1 convolutions, each a matrix product of 1024x1024 by 1024x1024.

    Between int8 products the values are quantized again, as between the layers of a network.
    """
    import numpy as np

    shape: list[int | None] = [1, _CHANNELS, _SIDE, _SIDE]
    inputs, outputs = ValueInfo("input", FLOAT, shape), ValueInfo("output", FLOAT, shape)
    weight = np.ones((_CHANNELS, _CHANNELS, 1, 1), np.int8 if arithmetic == "int8" else np.float32)
    values = ["input", *(f"layer{number}" for number in range(1, _LAYERS)), "output"]
    if arithmetic == "int8":
        content = encode_tensor("weight", INT8, weight.shape, weight.tobytes())
        content += encode_tensor("scale", FLOAT, [], np.float32(1).tobytes())
        content += encode_tensor("zero", INT8, [], b"\0")
        content += encode_node("DequantizeLinear", ["weight", "scale", "zero"], "weights")
        content += _rounded("input", "input_rounded")
        for before, after in pairwise(values):
            content += encode_node("Conv", [f"{before}_rounded", "weights"], f"{after}_product")
            content += _rounded(f"{after}_product", after if after == "output" else f"{after}_rounded")
    else:
        content = encode_tensor("weight", FLOAT, weight.shape, weight.tobytes())
        for before, after in pairwise(values):
            content += encode_node("Conv", [before, "weight"], after)
    return encode_model(content, [inputs], [outputs], opset=_OPSET)


def _rounded(value: str, result: str) -> bytes:
    """Return the nodes that make `result` of `value` by rounding it to int8."""
    levels = f"{value}_levels"
    return encode_node("QuantizeLinear", [value, "scale", "zero"], levels) + encode_node(
        "DequantizeLinear", [levels, "scale", "zero"], result
    )
