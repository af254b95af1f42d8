"""OpenVINO as an engine of zoo."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Engine
from zoo.errors import InputError, IntegrityError, ZooError
from zoo.machine.processors import multiplies_unsigned, thread_count
from zoo.onnx.check import check_onnx, read_model_bytes
from zoo.onnx.uint8 import to_unsigned
from zoo_openvino.fake_quantize import fuse_pairs

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile, FloatArray


class OpenVinoSession:
    """A model compiled by OpenVINO: float32 (N, C, H, W) in, float32 out."""

    def __init__(self, compiled: Any) -> None:
        if len(compiled.inputs) != 1 or len(compiled.outputs) != 1:
            raise IntegrityError(
                f"The model has {len(compiled.inputs)} inputs and {len(compiled.outputs)} outputs; "
                "zoo runs models with one float32 input and one output."
            )
        self._request = compiled.create_infer_request()
        self._shape = compiled.inputs[0].get_partial_shape()

    def run(self, inputs: FloatArray) -> FloatArray:
        """Run one batch. Raises InputError if its shape does not fit, ZooError if the engine fails."""
        import numpy as np
        import openvino

        if not openvino.PartialShape(list(inputs.shape)).compatible(self._shape):
            raise InputError(f"The model expects inputs of {self._shape}, not {tuple(inputs.shape)}.")
        array = np.ascontiguousarray(inputs, dtype=np.float32)
        try:
            self._request.infer([array], share_inputs=True)
            output = self._request.get_output_tensor(0).data
        except Exception as error:  # openvino raises a dozen unrelated types
            raise ZooError(f"OpenVINO failed on an input of {inputs.shape}: {_reason(error)}") from error
        return np.array(output, dtype=np.float32)


class OpenVinoEngine(Engine):
    """OpenVINO on the processor, with every processor this process may use."""

    contract = 1
    id = "openvino"
    summary = "OpenVINO on the CPU, float32 and int8"

    def available(self) -> str | None:
        """Return None if the package is installed, otherwise the reason."""
        if importlib.util.find_spec("openvino") is None:
            return "The package 'openvino' is not installed."
        return None

    def version(self) -> str:
        """Return the version of the package, without importing it."""
        return importlib.metadata.version("openvino")

    def open(
        self, model: Path | bytes, *, threads: int = 0, profile: DeviceProfile | None = None
    ) -> OpenVinoSession:
        """Compile a model; `threads` 0 means as many as the profile says, else one for each usable processor.

        Memory arena and execution mode of the profile have no counterpart in OpenVINO.

        Raises InputError if the file cannot be read, IntegrityError if it is damaged, reaches outside itself,
        holds operators that are not standard, or if OpenVINO refuses it.
        """
        import openvino

        data = read_model_bytes(model)
        check_onnx(data)
        try:
            core = openvino.Core()
            network = core.read_model(data)
            if not fuse_pairs(network) and multiplies_unsigned():
                # What is left as pairs of operators is computed wrongly with signed levels.
                network = core.read_model(to_unsigned(data))
            compiled = core.compile_model(
                network,
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": thread_count(threads, profile),
                    "NUM_STREAMS": 1,
                    "PERFORMANCE_HINT": "LATENCY",
                    # bfloat16 would be taken where the processor has it: faster, and another result
                    "INFERENCE_PRECISION_HINT": "f32",
                },
            )
        except Exception as error:  # openvino raises a dozen unrelated types
            raise IntegrityError(f"OpenVINO cannot load the model: {_reason(error)}") from error
        return OpenVinoSession(compiled)


def _reason(error: Exception) -> str:
    """The last line of the engine's message that is not about its own source."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and not line.startswith("Exception from")
    ]
    return lines[-1][:300] if lines else type(error).__name__
