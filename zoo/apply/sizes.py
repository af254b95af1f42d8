"""Which sizes of input the exported file takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.apply.request import Job, narrowed
from zoo.errors import ExportError
from zoo.export.onnx_file import export_onnx

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import Reporter

#: Where sides of any length are refused, sides that can be halved five times often are not.
_MULTIPLE = 32


def export_first(job: Job, model: nn.Module, reporter: Reporter) -> tuple[Job, bytes]:
    """The file of the network as it comes, and the job for the sizes of input that this file takes.

    A network is exported for any size. Where torch refuses that, it is exported for multiples of 32 (sums over skip
    connections, attention in windows), and where torch refuses that too, for the size of its example (a fully
    connected layer on flattened pixels); both are told.

    Raises ExportError if torch refuses all, UsageError if nothing can be trained at the sizes that are left.
    """
    try:
        return job, export_onnx(model, job.architecture)
    except ExportError as error:
        refused = error
    for other, takes in _narrower(job):
        try:
            exported = export_onnx(model, other.architecture)
        except ExportError:
            continue
        reporter.note(
            f"The file takes {takes} alone; for any size it cannot be exported: {refused.reason[:200]}"
        )
        return other, exported
    raise refused


def _narrower(job: Job) -> Iterator[tuple[Job, str]]:
    """The job for ever fewer sizes, and in words for which."""
    spec = job.architecture.input
    height, width = spec.example
    if spec.fixed_size:
        return
    if _MULTIPLE % spec.multiple_of == 0 and not (height % _MULTIPLE or width % _MULTIPLE):
        yield narrowed(job, multiple_of=_MULTIPLE), f"inputs with sides that are multiples of {_MULTIPLE}"
    yield narrowed(job, fixed_size=True), f"inputs of {width}x{height}"
