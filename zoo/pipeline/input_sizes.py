"""Which sizes of input the exported file takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zoo import plugins
from zoo.errors import ExportError, ZooError
from zoo.export.exporter import export_onnx
from zoo.export.symbolic_shapes import SymbolicShapeTooComplex
from zoo.pipeline.request import Job, narrowed

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import InputSpec, Reporter

#: Where sides of any length are refused, sides that can be halved five times often are not.
_MULTIPLE = 32


def export_first(job: Job, model: nn.Module, reporter: Reporter) -> tuple[Job, bytes]:
    """The file of the network as it comes, and the job for the sizes of input that this file takes.

    A network is exported for any size. Where torch refuses that, or its file does not run, it is exported for multiples
    of 32 (sums over skip connections, attention in windows), and where that fails too, for the size of its example (a
    fully connected layer on flattened pixels); both are told.

    Raises ExportError if torch refuses all, UsageError if nothing can be trained at the sizes that are left.
    """
    try:
        return job, _export_running(job, model, reporter)
    except ExportError as error:
        refused = error
    for other in _narrower(job, refused):
        try:
            exported = _export_running(other, model, reporter)
        except ExportError:
            continue
        reporter.note(
            f"The file takes {_sizes(other.architecture.input)} alone; for any size it cannot be exported: "
            f"{refused.reason[:200]}"
        )
        return other, exported
    raise refused


def _export_running(job: Job, model: nn.Module, reporter: Reporter) -> bytes:
    """The file, if it runs at the size of the example: torch exports at another, and may take one for the other."""
    exported = export_shown(job, model, reporter)
    spec = job.architecture.input
    if not spec.fixed_size:
        try:
            session = plugins.engine("onnxruntime").open(exported, threads=job.request.threads)
            session.run(np.zeros((1, spec.channels, *spec.example), np.float32))
        except ZooError as error:
            message = f"What torch exports of {job.architecture.id} does not run"
            raise ExportError(f"{message}: {error.message}", reason=error.message) from error
    return exported


def export_shown(job: Job, model: nn.Module, reporter: Reporter, *, half_weights: bool = False) -> bytes:
    """:func:`zoo.export.exporter.export_onnx` with progress."""
    reporter.start(f"export for {_sizes(job.architecture.input)}", 1, "file")
    try:
        exported = export_onnx(model, job.architecture, half_weights=half_weights)
        reporter.advance()
        return exported
    finally:
        reporter.finish()


def _sizes(spec: InputSpec) -> str:
    height, width = spec.example
    if spec.fixed_size:
        return f"inputs of {width}x{height}"
    return (
        "any input"
        if spec.multiple_of == 1
        else f"inputs with sides that are multiples of {spec.multiple_of}"
    )


def _narrower(job: Job, refused: ExportError) -> Iterator[Job]:
    """The job for ever fewer sizes."""
    spec = job.architecture.input
    height, width = spec.example
    if spec.fixed_size:
        return
    divides = _MULTIPLE % spec.multiple_of == 0 and not (height % _MULTIPLE or width % _MULTIPLE)
    # Formulas of sizes that are too long for any size are hardly ever shorter for multiples, and take as long to form.
    if divides and not isinstance(refused.__cause__, SymbolicShapeTooComplex):
        yield narrowed(job, multiple_of=_MULTIPLE)
    yield narrowed(job, fixed_size=True)
