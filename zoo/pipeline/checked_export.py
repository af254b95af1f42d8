"""Exporting a network, and holding the file against it before anything else is done with either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.contracts.random_inputs import random_inputs
from zoo.errors import DisagreementError, ExportError, ZooError
from zoo.export.engine_refusal import blaming_export
from zoo.export.exporter import export_onnx
from zoo.export.file_agreement import FileAgreement, check_file
from zoo.pipeline.golden_inputs import comparison_inputs

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import Architecture, CropSize, Dataset, InputSpec, Reporter


@dataclass(frozen=True)
class Exported:
    """A file and how closely it computes what its network does.

    Attributes:
        data: The bytes of model.onnx.
        agreement: With the network, in ONNX Runtime.
    """

    data: bytes
    agreement: FileAgreement


def checked_export(
    model: nn.Module,
    architecture: Architecture,
    dataset: Dataset,
    reporter: Reporter,
    *,
    crop: CropSize,
    seed: int,
    half_weights: bool = False,
    threads: int = 0,
    first: bool = False,
) -> Exported:
    """Export a network, run the file on small crops and on another size, and compare.

    Args:
        model: The network, in eval mode.
        architecture: With the sizes of input that the file shall accept.
        dataset: Where the crops come from.
        reporter: Shows progress.
        crop: Size of the training crops.
        seed: Of the run.
        half_weights: Whether the weights of float layers are stored in 16 bits.
        threads: Of the engine; 0 for all that this process may use.
        first: Whether it is still open which sizes the file accepts: one that does not run is an ExportError then.

    Raises:
        ExportError: torch cannot export the network, or what it exports does not run.
        DisagreementError: The file computes something else.
    """
    reporter.start(f"export for {sizes_text(architecture.input)}", 1, "file")
    try:
        data = export_onnx(model, architecture, half_weights=half_weights)
        reporter.advance()
    finally:
        reporter.finish()
    inputs = comparison_inputs(dataset, architecture, crop, seed)
    try:
        if first:
            with blaming_export(architecture.id, data):
                _run_example(data, architecture.input, threads)
        agreement = check_file(model, architecture, data, inputs, half_weights=half_weights, threads=threads)
    except (DisagreementError, ExportError):
        raise
    except ZooError as error:
        if not first:
            raise
        raise ExportError(error.message, hint=error.hint, reason=error.message) from error
    return Exported(data, agreement)


def _run_example(data: bytes, spec: InputSpec, threads: int) -> None:
    """Run a file at the size of the example: torch exports at another, and may confuse the two."""
    if not spec.fixed_size:
        session = plugins.engine("onnxruntime").open(data, threads=threads)
        session.run(random_inputs(spec))


def sizes_text(spec: InputSpec) -> str:
    """Return which inputs are accepted: "any input", "inputs of 64x64"."""
    height, width = spec.example
    if spec.fixed_size:
        return f"inputs of {width}x{height}"
    return (
        "any input"
        if spec.multiple_of == 1
        else f"inputs with sides that are multiples of {spec.multiple_of}"
    )
