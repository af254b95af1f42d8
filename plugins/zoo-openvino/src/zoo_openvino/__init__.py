"""OpenVINO as an engine of zoo."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Engine
from zoo.engines.feeds import ModelInput, check_fed, feeds_of
from zoo.errors import IntegrityError, ZooError
from zoo.machine.processors import multiplies_unsigned, thread_count
from zoo.onnx.check import check_onnx, read_model_bytes
from zoo.onnx.uint8 import to_unsigned
from zoo_openvino.fake_quantize import fuse_pairs

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile, FloatArray

#: Types of inputs, as OpenVINO and as ONNX Runtime call them.
_TYPES = {"f32": "tensor(float)", "i64": "tensor(int64)", "i32": "tensor(int32)"}


class OpenVinoSession:
    """A model compiled by OpenVINO: float32 (N, C, H, W) in, float32 out.

    A model with several inputs is given the array that holds them; see :class:`zoo.contracts.input_parts.Packing`.
    """

    def __init__(self, compiled: Any) -> None:
        types = [_TYPES.get(port.get_element_type().get_type_name()) for port in compiled.inputs]
        if not all(types) or not types or not compiled.outputs:
            raise IntegrityError(
                f"The model has {len(compiled.inputs)} inputs and {len(compiled.outputs)} outputs; "
                "zoo runs models with inputs of float32 or whole numbers."
            )
        self._request = compiled.create_infer_request()
        self._inputs = [
            ModelInput(port.get_any_name(), str(kind), _sides(port.get_partial_shape()))
            for port, kind in zip(compiled.inputs, types, strict=True)
        ]
        self._outputs = [_name(port) for port in compiled.outputs]

    def run(self, inputs: FloatArray) -> FloatArray:
        """Run one batch, and return the main output.

        Raises InputError if its shape does not fit, ZooError if the engine fails.
        """
        import numpy as np

        self._infer(inputs)
        return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)

    def run_all(self, inputs: FloatArray) -> dict[str, FloatArray]:
        """Run one batch and return all outputs by name; arguments and errors are those of :meth:`run`."""
        import numpy as np

        self._infer(inputs)
        return {
            name: np.array(self._request.get_output_tensor(place).data, dtype=np.float32)
            for place, name in enumerate(self._outputs)
        }

    def _infer(self, inputs: FloatArray) -> None:
        check_fed(self._inputs, inputs)
        feeds = feeds_of(self._inputs, inputs)
        try:
            self._request.infer([feeds[each.name] for each in self._inputs], share_inputs=True)
        except Exception as error:  # openvino raises a dozen unrelated types
            raise ZooError(f"OpenVINO failed on an input of {inputs.shape}: {_reason(error)}") from error


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


def _sides(shape: Any) -> list[int | None]:
    return [side.get_length() if side.is_static else None for side in shape]


def _name(port: Any) -> str:
    """The name that an output has in the file: OpenVINO may know it by those of the operators before it, too."""
    return str(port.get_node().get_friendly_name()).removesuffix("/sink_port_0")


def _reason(error: Exception) -> str:
    """The last line of the engine's message that is not about its own source."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and not line.startswith("Exception from")
    ]
    return lines[-1][:300] if lines else type(error).__name__
