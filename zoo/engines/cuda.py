"""ONNX Runtime on an NVIDIA GPU, through its CUDA provider.

Written after ONNX Runtime's documentation. It has not been run on a GPU by zoo's authors; what is tested is what can be
without one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import Engine
from zoo.engines.ort_session import CPU, Provider, open_session, provider_problem, runtime_version
from zoo.machine.nvidia import has_gpu
from zoo.onnx.check import read_model_bytes
from zoo.onnx.dequantize import to_float

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile
    from zoo.engines.ort_session import OnnxRuntimeSession

CUDA = "CUDAExecutionProvider"


class CudaEngine(Engine):
    """ONNX Runtime's CUDA provider, in float32. It has no int8 convolutions, so int8 files become float ones."""

    id = "cuda"
    summary = "ONNX Runtime on an NVIDIA GPU, float32 (not run on a GPU by zoo's authors)"

    def available(self) -> str | None:
        """Return None if a driver is loaded and this build of ONNX Runtime has the provider, else the reason."""
        return gpu_problem() or provider_problem(CUDA)

    def version(self) -> str:
        """Return the version of ONNX Runtime."""
        return runtime_version()

    def open(
        self, model: Path | bytes, *, threads: int = 0, profile: DeviceProfile | None = None
    ) -> OnnxRuntimeSession:
        """Load a model.

        Args:
            model: Path, or the file's bytes.
            threads: Of operators that the GPU does not compute.
            profile: Of the device.

        Raises:
            InputError: The file cannot be read.
            IntegrityError: It is damaged, refers to other files, or holds operators that are not standard.
            PluginError: ONNX Runtime refuses it, or the GPU does not start.
        """
        data = to_float(read_model_bytes(model))
        return open_session(data, [cuda_provider(profile), (CPU, {})], threads=threads, profile=profile)


def gpu_problem() -> str | None:
    """Return why no GPU can be used here, None if one can."""
    return None if has_gpu() else "No driver of an NVIDIA GPU is loaded here."


def cuda_provider(profile: DeviceProfile | None) -> Provider:
    """Return the CUDA provider with its options.

    Half of the profile's memory at most, since a board's GPU shares it with the processor; no more is taken at a time
    than is asked for, and the algorithm of a convolution is chosen without trying all of them, each in memory of
    its own.
    """
    options = {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    if profile is not None:
        options["gpu_mem_limit"] = str(profile.memory_mb * 2**20 // 2)
    return CUDA, options
