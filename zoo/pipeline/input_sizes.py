"""The sizes of input that the exported file accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import plugins
from zoo.errors import ExportError, ZooError
from zoo.export.exporter import export_onnx
from zoo.export.symbolic_shapes import SymbolicShapeTooComplex
from zoo.pipeline.input_spec import adapt_input, choose_crop, restrict_input

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import Architecture, InputSpec, Reporter, Technique

#: Where sides of any length are refused, sides that can be halved five times often are not.
_MULTIPLE = 32


def trial_export(
    model: nn.Module,
    base: Architecture,
    techniques: Sequence[Technique],
    reporter: Reporter,
    *,
    crop: int = 0,
    threads: int = 0,
) -> tuple[Architecture, bytes]:
    """Return the architecture with the sizes of input that the exported file accepts, and that file.

    The network is exported as it comes, for any size. Where torch refuses that, or its file does not run, it is
    exported for multiples of 32 (sums over skip connections, attention in windows), and where that fails too, for the
    size of its example (a fully connected layer on flattened pixels); both are reported.

    Args:
        model: The network before the recipe.
        base: Its architecture.
        techniques: What will be applied; the input that is returned suits all of them.
        crop: Side of the training crops that was asked for; 0 for the default.
        threads: Of the engine; 0 for all that this process may use.

    Raises:
        ExportError: torch refuses all sizes.
        UsageError: Nothing can be trained at the sizes that are left.
    """
    architecture = adapt_input(base, techniques)
    choose_crop(architecture, crop)
    try:
        return architecture, _export_running(model, architecture, reporter, threads)
    except ExportError as error:
        refused = error
    for changes in _narrower(architecture.input, refused):
        architecture = adapt_input(restrict_input(base, **changes), techniques)
        choose_crop(architecture, crop)
        try:
            exported = _export_running(model, architecture, reporter, threads)
        except ExportError:
            continue
        reporter.note(
            f"The exported file accepts only {_sizes(architecture.input)}; exporting for arbitrary sizes failed: "
            f"{refused.reason[:200]}"
        )
        return architecture, exported
    raise refused


def _export_running(model: nn.Module, architecture: Architecture, reporter: Reporter, threads: int) -> bytes:
    """Return the file, if it runs at the size of the example: torch exports at another, and may confuse the two."""
    exported = export_shown(model, architecture, reporter)
    spec = architecture.input
    if not spec.fixed_size:
        try:
            session = plugins.engine("onnxruntime").open(exported, threads=threads)
            session.run(np.zeros((1, spec.channels, *spec.example), np.float32))
        except ZooError as error:
            message = f"What torch exports of {architecture.id} does not run"
            raise ExportError(f"{message}: {error.message}", reason=error.message) from error
    return exported


def export_shown(
    model: nn.Module, architecture: Architecture, reporter: Reporter, *, half_weights: bool = False
) -> bytes:
    """Call :func:`zoo.export.exporter.export_onnx` and show progress."""
    reporter.start(f"export for {_sizes(architecture.input)}", 1, "file")
    try:
        exported = export_onnx(model, architecture, half_weights=half_weights)
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


def _narrower(spec: InputSpec, refused: ExportError) -> Iterator[dict[str, Any]]:
    """Yield changes to the input, each leaving fewer sizes than the one before."""
    height, width = spec.example
    if spec.fixed_size:
        return
    divides = _MULTIPLE % spec.multiple_of == 0 and not (height % _MULTIPLE or width % _MULTIPLE)
    # Formulas of sizes that are too long for any size are hardly ever shorter for multiples, and take as long to form.
    if divides and not isinstance(refused.__cause__, SymbolicShapeTooComplex):
        yield {"multiple_of": _MULTIPLE}
    yield {"fixed_size": True}
