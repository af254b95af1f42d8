"""TensorRT on an NVIDIA GPU, through ONNX Runtime's provider.

Written after the documentation of ONNX Runtime and TensorRT. It has not been run on a GPU by zoo's authors; what is
tested is what can be without one: the options, the key of the cache, what makes it unavailable, and that another
engine takes over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import Engine, InputSpec
from zoo.engines.cuda import cuda_provider, gpu_problem
from zoo.engines.ort_session import CPU, open_session, provider_problem, runtime_version
from zoo.engines.tensorrt_cache import open_or_build_engine
from zoo.errors import OutputError
from zoo.machine.nvidia import tensorrt_version
from zoo.onnx.check import read_model_bytes
from zoo.onnx.dequantize import to_float
from zoo.onnx.graph import read_model
from zoo.onnx.packed_weights import unpack_int4
from zoo.onnx.symmetric import to_symmetric

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile
    from zoo.engines.ort_session import OnnxRuntimeSession

TENSORRT = "TensorrtExecutionProvider"
#: Of a network that zoo knows nothing of; most take multiples of fewer.
_UNKNOWN = InputSpec("rgb", 0, multiple_of=32)
#: Sides of the inputs an engine is built for: the least, what it is tuned for, and the greatest by megabytes of
#: memory, of which TensorRT sets aside what the greatest needs.
_LEAST, _TUNED = 16, 512
_GREATEST = ((4096, 768), (16384, 1024), (1 << 24, 2048))
_WORKSPACE = (64 << 20, 4 << 30)


class TensorRtEngine(Engine):
    """TensorRT, int8 where the profile's GPU has it and else float16; the first load builds an engine, in minutes.

    Engines are kept in the cache, a folder for each model, GPU, version and set of options.
    """

    id = "tensorrt"
    summary = "TensorRT on an NVIDIA GPU, int8 and float16 (not run on a GPU by zoo's authors)"

    def available(self) -> str | None:
        """Return None if a driver, the provider in this ONNX Runtime and TensorRT are there, else the reason."""
        missing = "The library of TensorRT (libnvinfer) is not installed."
        return gpu_problem() or provider_problem(TENSORRT) or (None if tensorrt_version() else missing)

    def version(self) -> str:
        """Return the versions of ONNX Runtime and TensorRT."""
        return f"{runtime_version()} (TensorRT {tensorrt_version() or 'unknown'})"

    def open(
        self,
        model: Path | bytes,
        *,
        threads: int = 0,
        profile: DeviceProfile | None = None,
        spec: InputSpec | None = None,
    ) -> OnnxRuntimeSession:
        """Load a model, building its engine if the cache has none.

        Args:
            model: Path, or the file's bytes.
            threads: Of operators that the GPU does not compute.
            profile: Of the device.
            spec: Says what sizes of inputs the network takes.

        Raises:
            InputError: The file cannot be read.
            IntegrityError: It is damaged, refers to other files, or holds operators that are not standard.
            PluginError: ONNX Runtime refuses it, or the GPU does not start.
        """
        data = read_model_bytes(model)
        # TensorRT knows symmetric int8 in QuantizeLinear and DequantizeLinear, but no INT4 with them.
        data = to_symmetric(unpack_int4(data)) if has_int8(profile) else to_float(data)
        options = tensorrt_options(data, profile, spec)
        varies = "trt_profile_max_shapes" in options
        most_side = greatest_side(profile, (spec or _UNKNOWN).multiple_of) if varies else None

        def build(folder: Path | None) -> OnnxRuntimeSession:
            ours = {**options, **(cache_options(folder, runtime_version()) if folder else {})}
            providers = [(TENSORRT, ours), cuda_provider(profile), (CPU, {})]
            return open_session(data, providers, threads=threads, profile=profile, most_side=most_side)

        try:
            return open_or_build_engine(data, options, self.version(), build)
        except OutputError:
            return build(None)  # a board's file system may be read-only; the engine is then built each time


def has_int8(profile: DeviceProfile | None) -> bool:
    """Return whether the GPU computes in int8; a GPU without a profile is assumed to."""
    return profile is None or "int8" in profile.precisions


def tensorrt_options(
    data: bytes, profile: DeviceProfile | None, spec: InputSpec | None = None
) -> dict[str, str]:
    """Return the options an engine is built with, except those for the cache.

    float16 where the profile names it, the workspace an eighth of its memory. For inputs of varying size the least,
    the most frequent and the greatest are stated, so that no tile of another size makes TensorRT build once more.
    """
    options = {
        "device_id": "0",
        "trt_fp16_enable": _flag(profile is None or "float16" in profile.precisions),
        "trt_int8_enable": _flag(has_int8(profile)),
        "trt_auxiliary_streams": "0",  # the least memory
        "trt_context_memory_sharing_enable": _flag(True),
    }
    if profile is not None:
        workspace = min(max(profile.memory_mb * 2**20 // 8, _WORKSPACE[0]), _WORKSPACE[1])
        options["trt_max_workspace_size"] = str(workspace)
    return {**options, **_shapes(data, profile, spec or _UNKNOWN)}


def cache_options(folder: Path, runtime: str) -> dict[str, str]:
    """Return the options that keep the engine and the timings of its kernels in a folder.

    Args:
        folder: The folder.
        runtime: ONNX Runtime's version.
    """
    options = {
        "trt_engine_cache_enable": _flag(True),
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": _flag(True),
    }
    numbers = [int(number) for number in re.findall(r"\d+", runtime)[:2]]
    if numbers >= [1, 17]:  # before, timings went where engines go; since, into the working directory
        options["trt_timing_cache_path"] = str(folder)
    return options


def greatest_side(profile: DeviceProfile | None, multiple_of: int) -> int:
    """Return the longest side of an input that an engine is built for."""
    memory = 4096 if profile is None else profile.memory_mb
    most = next(side for limit, side in _GREATEST if memory <= limit)
    return max(multiple_of, most // multiple_of * multiple_of)


def _shapes(data: bytes, profile: DeviceProfile | None, spec: InputSpec) -> Mapping[str, str]:
    graph = read_model(data)
    constants = {tensor.name for tensor in graph.initializers}
    inputs = [value for value in graph.inputs if value.name not in constants]
    if len(inputs) != 1 or inputs[0].dims is None or None not in inputs[0].dims:
        return {}  # the session refuses the first two; sizes that do not vary need no range
    unit = spec.multiple_of
    greatest = greatest_side(profile, unit)
    least = min(-(-_LEAST // unit) * unit, greatest)
    tuned = max(least, min(_TUNED, greatest) // unit * unit)
    name, dims = inputs[0].name, inputs[0].dims
    return {
        f"trt_profile_{which}_shapes": f"{name}:{'x'.join(_sides(dims, side))}"
        for which, side in (("min", least), ("opt", tuned), ("max", greatest))
    }


def _sides(dims: list[int | None], side: int) -> list[str]:
    """Return a shape in which the batch is 1 and the sides that may vary are `side`."""
    return [str(given if given is not None else 1 if axis == 0 else side) for axis, given in enumerate(dims)]


def _flag(value: bool) -> str:
    return "True" if value else "False"
