"""Running a file in ONNX Runtime with the values before each rounding among its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts import crop_size
from zoo.data.calibration import CALIBRATION_BATCHES, calibration_crops
from zoo.engines.feeds import feeds_of
from zoo.engines.patience import opening, running
from zoo.errors import InputError, IntegrityError
from zoo.explanation.quantized_tensors import parse_onnx, remove_activation_rounding
from zoo.extras import require

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnxruntime import InferenceSession

    from zoo.contracts import Architecture, Dataset

    Values = npt.NDArray[np.float32]

#: What recipes calibrate with unless told otherwise.
_CALIBRATION_BATCH = 4
_CALIBRATION_SIDE = 128


class IntermediateOutputs:
    """A file whose intermediate values can be read. Where one is recorded, operators around it are not fused.

    With `rounding` false, activations that the file rounds pass as they are: what an observer would see.
    """

    def __init__(
        self, data: bytes, values: Sequence[str], *, rounding: bool = True, threads: int = 0
    ) -> None:
        model = parse_onnx(data)
        if not rounding:
            remove_activation_rounding(model)
        self._values = tuple(values)
        names = [value.name for value in model.graph.input]
        given = {*names, *(output.name for output in model.graph.output)}
        for name in self._values:
            if name not in given:
                model.graph.output.add(name=name)
        self._session = open_as_written(model.SerializeToString(), threads)

    def run(self, inputs: Values) -> Iterator[tuple[str, Values]]:
        """Return each recorded value for a batch (N, C, H, W), by name."""
        feeds = feeds_of(self._session.get_inputs(), inputs)
        wanted = [name for name in self._values if name not in feeds]
        try:
            # Asked for nothing, ONNX Runtime returns everything.
            with running(inputs.shape):
                outputs = self._session.run(wanted, feeds) if wanted else []
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            shape = "x".join(map(str, inputs.shape))
            raise InputError(f"ONNX Runtime failed on an input of {shape}: {error}") from error
        found = dict(zip(wanted, outputs, strict=True)) | feeds
        return ((name, np.asarray(found[name], dtype=np.float32)) for name in self._values)


def open_as_written(data: bytes, threads: int = 0) -> InferenceSession:
    """Return a session that rounds where the file does, and only there.

    ONNX Runtime otherwise rounds float weights of a layer between two quantizers to 8 bits, one scale for all channels.

    Raises:
        IntegrityError: ONNX Runtime refuses the file.
    """
    runtime = require("onnxruntime", "Explaining a file", extra="cpu")
    from zoo.machine.processors import usable_processors

    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or usable_processors()
    try:
        with opening(len(data)):
            session: InferenceSession = runtime.InferenceSession(
                data,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["WeightBiasQuantization"],
            )
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        raise IntegrityError(f"ONNX Runtime cannot load the model: {error}") from error
    return session


def evaluation_inputs(
    dataset: Dataset, architecture: Architecture, images: int, seed: int
) -> Iterator[Values]:
    """Yield the middle of each of the first test frames, (1, C, H, W), no larger than the architecture's example.

    Raises:
        InputError: There is no test frame, or none is large enough.
    """
    count = 0
    for sample in islice(dataset.frames(architecture, "test", seed), images):
        cut = _middle(sample.inputs, architecture)
        if cut is not None:
            count += 1
            yield cut[None]
    if not count:
        height, width = architecture.input.example
        raise InputError(
            f"{dataset.id} has no test image that {architecture.id} accepts ({width}x{height} input).",
            hint="Add photographs with --photos DIR, or name other data with --data.",
        )


def calibration_inputs(dataset: Dataset, architecture: Architecture, seed: int) -> Iterator[Values]:
    """Yield training crops as recipes calibrate with, (1, C, H, W)."""
    spec = architecture.input
    side = min(_CALIBRATION_SIDE, *spec.example)
    square = max(side - side % spec.multiple_of, spec.multiple_of)
    size = crop_size(*spec.example) if spec.fixed_size else square
    count = CALIBRATION_BATCHES * _CALIBRATION_BATCH
    for sample in calibration_crops(dataset, architecture, size, seed, count):
        yield sample.inputs[None]


def _middle(inputs: Values, architecture: Architecture) -> Values | None:
    spec = architecture.input
    sides = [
        example if spec.fixed_size else min(given, example) // spec.multiple_of * spec.multiple_of
        for given, example in zip(inputs.shape[1:], spec.example, strict=True)
    ]
    if any(side == 0 or side > given for side, given in zip(sides, inputs.shape[1:], strict=True)):
        return None
    top, left = ((given - side) // 2 for given, side in zip(inputs.shape[1:], sides, strict=True))
    return inputs[:, top : top + sides[0], left : left + sides[1]]
