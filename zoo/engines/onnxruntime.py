"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Engine
from zoo.engines.int8_graph import for_onnxruntime
from zoo.engines.processors import multiplies_unsigned, usable_processors
from zoo.errors import InputError, IntegrityError, ZooError
from zoo.files import read_bytes
from zoo.optional import install_hint, require

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

#: Distributions that bring the module `onnxruntime`.
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")

#: Protobuf messages, and so ONNX files, are smaller than this.
_LARGEST = 2**31


class OnnxRuntimeSession:
    """A model loaded in ONNX Runtime: float32 (N, C, H, W) in, float32 out."""

    def __init__(self, session: Any) -> None:
        self._session = session
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise IntegrityError(
                f"The model takes {len(inputs)} inputs and gives {len(outputs)} outputs; "
                "zoo runs one float32 input to one output."
            )
        self._input, self._output = inputs[0], outputs[0].name

    def run(self, inputs: FloatArray) -> FloatArray:
        """Run one batch. Raises InputError if its shape does not fit, ZooError if the engine fails."""
        import numpy as np

        expected = self._input.shape
        fits = len(expected) == inputs.ndim and all(
            not isinstance(side, int) or side == given
            for side, given in zip(expected, inputs.shape, strict=True)
        )
        if not fits:
            raise InputError(f"The model takes {_shape(expected)}, not {_shape(inputs.shape)}.")
        array = np.ascontiguousarray(inputs, dtype=np.float32)
        try:
            output = self._session.run([self._output], {self._input.name: array})[0]
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise ZooError(
                f"ONNX Runtime failed on an input of {_shape(inputs.shape)}: {_reason(error)}"
            ) from error
        return np.asarray(output, dtype=np.float32)


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime's CPU provider, on every processor this process may use."""

    id = "onnxruntime"
    summary = "ONNX Runtime on the CPU, float32 and int8"

    def available(self) -> str | None:
        """None if the package is installed."""
        if importlib.util.find_spec("onnxruntime") is None:
            return f"The package 'onnxruntime' is not installed. {install_hint('cpu')}"
        return None

    def version(self) -> str:
        """Version of the package, without importing it where its metadata tells."""
        for name in _DISTRIBUTIONS:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return str(require("onnxruntime", "This engine", extra="cpu").__version__)

    def open(self, model: Path | bytes, *, threads: int = 0) -> OnnxRuntimeSession:
        """Load a model; `threads` 0 means one for each processor this process may use.

        An int8 network is rewritten into the form that runs fastest, with bit-identical results.
        Raises InputError if the file cannot be read, IntegrityError if it is damaged, reaches outside itself,
        holds operators that are not standard, or if ONNX Runtime refuses it.
        """
        runtime = require("onnxruntime", "Running a network", extra="cpu")
        data = model if isinstance(model, bytes) else read_bytes(model, _LARGEST, error=IntegrityError)
        data = for_onnxruntime(data, unsigned=multiplies_unsigned())
        try:
            session = runtime.InferenceSession(
                data, _options(runtime, threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise IntegrityError(f"ONNX Runtime does not load the model: {_reason(error)}") from error
        return OnnxRuntimeSession(session)


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads if threads > 0 else usable_processors()
    options.inter_op_num_threads = 1
    # Measured on the int8 U-Net at 4 x 512 x 512: the arena alone peaks at 171 MB, with memory patterns at
    # 207 MB, and without an arena at 270 MB and slower, since every buffer is mapped afresh.
    options.enable_mem_pattern = False
    return options


def _shape(sides: Any) -> str:
    return "(" + ", ".join(str(side) for side in sides) + ")"


def _reason(error: Exception) -> str:
    """The engine's message without its source locations."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
