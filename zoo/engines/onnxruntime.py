"""ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import Engine
from zoo.engines.ort_session import CPU, open_session, optimize, provider_problem, runtime_version
from zoo.engines.prepared_models import load_or_prepare
from zoo.errors import IntegrityError
from zoo.machine.processors import multiplies_unsigned
from zoo.onnx.check import read_model_bytes
from zoo.onnx.uint8 import prepare_for_onnxruntime

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile
    from zoo.engines.ort_session import OnnxRuntimeSession


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime's CPU provider, on every processor this process may use."""

    id = "onnxruntime"
    summary = "ONNX Runtime on the CPU, float32 and int8"
    limit_addresses = True
    load_seconds = 120

    def available(self) -> str | None:
        """Return None if the package is installed, else the reason."""
        return provider_problem()

    def version(self) -> str:
        """Return the version of the package, from its metadata if possible, without importing it."""
        return runtime_version()

    def open(
        self,
        model: Path | bytes,
        *,
        threads: int = 0,
        profile: DeviceProfile | None = None,
        digest: str | None = None,
    ) -> OnnxRuntimeSession:
        """Load a model; an int8 network is rewritten into the form that runs fastest, with bit-identical results.

        It stays int8 where the profile's GPU has no int8: the processor has.

        Args:
            model: Path, or the file's bytes.
            threads: Overrides the profile's.
            profile: Says threads, memory arena and execution mode.
            digest: The model's sha256. With it, the rewritten model is kept in the cache for the next time.

        Raises:
            InputError: The file cannot be read.
            IntegrityError: It is damaged, refers to other files, holds operators that are not standard, or
                ONNX Runtime refuses it.
        """
        data, unsigned = read_model_bytes(model), multiplies_unsigned()

        def rewritten() -> bytes:
            return prepare_for_onnxruntime(data, unsigned=unsigned)

        if digest is not None:
            # If what is kept does not load after all, the model itself does, or says why not.
            with contextlib.suppress(IntegrityError):
                ready = load_or_prepare(
                    digest, self.version(), unsigned, lambda path: optimize(rewritten(), path), len(data)
                )
                if ready is not None:
                    return open_session(ready, [(CPU, {})], threads=threads, profile=profile, optimized=True)
        return open_session(rewritten(), [(CPU, {})], threads=threads, profile=profile)
