"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import Engine
from zoo.engines.int8_graph import for_onnxruntime
from zoo.engines.onnx_check import model_bytes
from zoo.engines.ort import CPU, obstacle, open_session, runtime_version
from zoo.engines.processors import multiplies_unsigned

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile
    from zoo.engines.ort import OnnxRuntimeSession


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime's CPU provider, on every processor this process may use."""

    id = "onnxruntime"
    summary = "ONNX Runtime on the CPU, float32 and int8"

    def available(self) -> str | None:
        """None if the package is installed."""
        return obstacle()

    def version(self) -> str:
        """Version of the package, without importing it where its metadata tells."""
        return runtime_version()

    def open(
        self, model: Path | bytes, *, threads: int = 0, profile: DeviceProfile | None = None
    ) -> OnnxRuntimeSession:
        """Load a model; threads, memory arena and execution mode are the profile's, `threads` overrides.

        An int8 network is rewritten into the form that runs fastest, with bit-identical results. It stays int8 where
        the profile's GPU has none: the processor has.
        Raises InputError if the file cannot be read, IntegrityError if it is damaged, reaches outside itself,
        holds operators that are not standard, or if ONNX Runtime refuses it.
        """
        data = for_onnxruntime(model_bytes(model), unsigned=multiplies_unsigned())
        return open_session(data, [(CPU, {})], threads=threads, profile=profile)
