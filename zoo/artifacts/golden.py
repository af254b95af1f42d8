"""golden.safetensors: a few inputs with the expected outputs, which reveal an engine that computes wrongly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.artifacts.safetensors_check import checked_tensors
from zoo.contracts.input_parts import packing_of
from zoo.errors import InputError, IntegrityError
from zoo.images.decibels import PSNR_CEILING
from zoo.images.decibels import psnr as decibels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import InputPart, OutputSpec, Session

    FloatArray = npt.NDArray[np.float32]

GOLDEN_NAME = "golden.safetensors"
_MOST_PAIRS = 100
_LARGEST = 256 << 20
#: Of the memory that a run may take, one part in so many may be the file, which is there twice while it is read.
_PART_OF_MEMORY = 4


class GoldenMismatchError(IntegrityError):
    """An engine does not compute what the golden outputs say."""


#: What the main output is called, in files and here.
MAIN_OUTPUT = "output"


def all_outputs(session: Session, inputs: FloatArray) -> dict[str, FloatArray]:
    """Return all outputs of a network by name, the main one as "output", for inputs (N, C, H, W)."""
    run_all = getattr(session, "run_all", None)
    return {MAIN_OUTPUT: session.run(inputs)} if run_all is None else run_all(inputs)


def golden_bytes(
    pairs: Sequence[tuple[FloatArray, FloatArray | Mapping[str, FloatArray]]], parts: Sequence[InputPart] = ()
) -> bytes:
    """Return the content of the file for pairs of an input (N, C, H, W) and its output, or outputs by name, float32.

    Args:
        pairs: The inputs and outputs; the inputs of a network that has several in one array.
        parts: The inputs of a network that has several; each is stored by itself.
    """
    import numpy as np
    from safetensors.numpy import save

    tensors = {}
    for number, (inputs, outputs) in enumerate(pairs):
        arrays = packing_of(parts).unpack(inputs) if parts else [inputs]
        for key, array in zip(_input_keys(number, parts), arrays, strict=True):
            tensors[key] = np.ascontiguousarray(array, dtype=np.float32)
        named = outputs if isinstance(outputs, Mapping) else {MAIN_OUTPUT: outputs}
        for name, value in named.items():
            key = f"output.{number}" if name == MAIN_OUTPUT else f"output.{number}.{name}"
            tensors[key] = np.ascontiguousarray(value, dtype=np.float32)
    return save(tensors)


def read_golden(
    artifact: Artifact, memory: int | None = None
) -> list[tuple[FloatArray, dict[str, FloatArray]]]:
    """Return the inputs of an artifact, each with its outputs by name, empty if it has none.

    Args:
        artifact: The artifact.
        memory: Bytes that a run may hold; None for any number.

    Raises:
        IntegrityError: The file is damaged, or too large.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    check = artifact.manifest.golden
    if check is None:
        return []
    source = str(artifact.path / check.file)
    size = artifact.manifest.files[check.file].size
    if memory is not None and size > memory // _PART_OF_MEMORY:
        raise IntegrityError(
            f"{source} has {size:,} bytes, too many for the {memory // 10**6} MB that a run may hold.",
            hint=f"If you trust the artifact, allow more:  --memory {-(-size * _PART_OF_MEMORY // 10**6)}MB",
        )
    content = checked_tensors(artifact.read(check.file, most=_LARGEST), source)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:  # a type numpy lacks, for instance
        raise IntegrityError(f"{source} is not a safetensors file: {error}") from error
    extras, parts = list(artifact.manifest.extra_outputs), artifact.manifest.input.parts
    count = len(tensors) // (max(1, len(parts)) + 1 + len(extras))
    keys = {
        number: {MAIN_OUTPUT: f"output.{number}", **{name: f"output.{number}.{name}" for name in extras}}
        for number in range(min(count, _MOST_PAIRS + 1))
    }
    names = {key for number in keys for key in _input_keys(number, parts)}
    names |= {key for each in keys.values() for key in each.values()}
    if not 1 <= count <= _MOST_PAIRS or names != tensors.keys():
        first = ", ".join((*_input_keys(0, parts), "output.0", *(f"output.0.{name}" for name in extras)))
        following = _input_keys(1, parts)[0]
        raise IntegrityError(f"{source} must contain {first}, {following}, ... and nothing else.")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or tensor.size == 0 or not np.isfinite(tensor).all():
            raise IntegrityError(f"{source}: {name} must contain finite float32 numbers.")
    return [
        (
            _packed([tensors[key] for key in _input_keys(number, parts)], artifact, source),
            {name: tensors[key] for name, key in each.items()},
        )
        for number, each in keys.items()
    ]


def _input_keys(number: int, parts: Sequence[InputPart]) -> list[str]:
    return [f"input.{number}.{part.name}" for part in parts] or [f"input.{number}"]


def _packed(arrays: list[FloatArray], artifact: Artifact, source: str) -> FloatArray:
    """The inputs as one array."""
    spec = artifact.manifest.input
    if not spec.parts:
        return arrays[0]
    try:
        return spec.pack(arrays)
    except InputError as error:
        raise IntegrityError(
            f"{source} does not hold the inputs that the manifest states: {error.message}"
        ) from error


def check_golden(
    session: Session, artifact: Artifact, engine: str, memory: int | None = None
) -> float | None:
    """Run the golden inputs and compare the outputs with the golden ones.

    How is said by :func:`agreement_psnr`.

    Args:
        session: The loaded network.
        artifact: The artifact it belongs to.
        engine: Name of the engine, for messages.
        memory: Bytes that a run may hold; None for any number.

    Returns:
        The lowest PSNR in dB over the pairs and outputs; None if the artifact has none.

    Raises:
        GoldenMismatchError: An output is missing, has another shape, or lies below the manifest's threshold.
        IntegrityError: The file is damaged or too large, or the network ends the engine.
    """
    import numpy as np

    manifest = artifact.manifest
    if manifest.golden is None:
        return None
    specs = {MAIN_OUTPUT: manifest.output, **manifest.extra_outputs}
    lowest = PSNR_CEILING
    for inputs, golden in read_golden(artifact, memory):
        several = bool(manifest.extra_outputs)
        found = all_outputs(session, inputs) if several else {MAIN_OUTPUT: session.run(inputs)}
        for name, expected in golden.items():
            outputs = np.asarray(found[name]) if name in found else np.zeros(0, np.float32)
            if outputs.shape != expected.shape:
                which = "" if name == MAIN_OUTPUT else f" as '{name}'"
                raise GoldenMismatchError(
                    f"{engine} returns {outputs.shape}{which} for a golden input of {artifact.path}; "
                    f"{expected.shape} is expected."
                )
            lowest = min(lowest, agreement_psnr(outputs, expected, specs[name]))
    if not lowest >= manifest.golden.min_psnr:
        raise GoldenMismatchError(
            f"{engine} computes {artifact.path} wrongly: its outputs agree with "
            f"the golden ones to {lowest:.1f} dB; {manifest.golden.min_psnr:.1f} dB are required.",
            hint="Try another engine (zoo list engines) or another version of this one.",
        )
    return lowest


def agreement_psnr(outputs: FloatArray, expected: FloatArray, spec: OutputSpec) -> float:
    """Return how nearly two outputs agree, as a PSNR in dB that is at most PSNR_CEILING; -inf if one is not finite.

    Args:
        outputs: Outputs of the network, (N, C, H, W), (N, classes), (N, n, 6) or of another shape.
        expected: What they should be, of the same shape.
        spec: What kind of output it is. The peak is 1 for images and masks, and the largest magnitude of the expected
            output for others. Boxes are compared with the ones that they overlap most, in whatever order they are: the
            errors are those of the overlap and of the score, weighted by the score.
    """
    import numpy as np

    if spec.kind == "boxes":
        return _boxes_psnr(outputs, expected)
    return output_psnr(outputs, expected, 1.0 if spec.bounded else float(np.abs(expected).max()) or 1.0)


def _boxes_psnr(outputs: FloatArray, expected: FloatArray) -> float:
    import numpy as np

    from zoo.tasks.average_precision import overlaps

    if not (np.isfinite(outputs).all() and np.isfinite(expected).all()):
        return -math.inf
    error = weight = 0.0
    for found, wanted in zip(outputs, expected, strict=True):
        alike = found[None, :, 5] == wanted[:, None, 5]
        overlap = np.where(alike, overlaps(wanted[:, :4], found[:, :4]), 0.0)
        best = overlap.argmax(axis=1)
        missed = np.square(1 - overlap.max(axis=1)) + np.square(wanted[:, 4] - found[best, 4])
        scores = wanted[:, 4].clip(0)
        error += float((scores * missed).sum())
        weight += float(scores.sum())
    return decibels(error / weight) if weight else PSNR_CEILING


def output_psnr(outputs: FloatArray, expected: FloatArray, peak: float = 1.0) -> float:
    """Return the PSNR in dB, at most PSNR_CEILING; -inf if an output is not finite.

    Args:
        outputs: Outputs of the network, (N, C, H, W) or (N, classes).
        expected: What they should be, of the same shape.
        peak: The largest value that counts as full scale.
    """
    import numpy as np

    error = float(np.mean(np.square(outputs - expected, dtype=np.float64)))
    return decibels(error / peak**2) if math.isfinite(error) else -math.inf
