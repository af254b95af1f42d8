"""The sizes of input that the exported file accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.errors import DisagreementError, ExportError
from zoo.export.symbolic_shapes import SymbolicShapeTooComplex
from zoo.pipeline.checked_export import checked_export, sizes_text
from zoo.pipeline.input_spec import adapt_input, choose_crop, restrict_input

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import Architecture, Dataset, InputSpec, Reporter, Technique
    from zoo.errors import ZooError
    from zoo.pipeline.checked_export import Exported
    from zoo.pipeline.originals import Once

#: Where sides of any length are refused, sides that can be halved five times often are not.
_MULTIPLE = 32


def trial_export(
    model: nn.Module,
    base: Architecture,
    techniques: Sequence[Technique],
    dataset: Dataset,
    reporter: Reporter,
    *,
    crop: int = 0,
    seed: int = 0,
    threads: int = 0,
    once: Once,
) -> tuple[Architecture, Exported]:
    """Return the architecture with the sizes of input that the exported file accepts, and that file.

    The network is exported as it comes, for any size. Where torch refuses that, or its file does not run or computes
    something else, it is
    exported for multiples of 32 (sums over skip connections, attention in windows), and where that fails too, for the
    size of its example (a fully connected layer on flattened pixels); both are reported.

    Args:
        model: The network before the recipe.
        base: Its architecture.
        techniques: What will be applied; the input that is returned suits all of them.
        dataset: Gives the inputs that the file is run on.
        crop: Side of the training crops that was asked for; 0 for the default.
        seed: Of the run.
        threads: Of the engine; 0 for all that this process may use.
        once: Remembers the file of the network; see :class:`zoo.pipeline.originals.Originals`.

    Raises:
        ExportError: torch refuses all sizes.
        DisagreementError: The file does not compute what the network does.
        UsageError: Nothing can be trained at the sizes that are left.
    """

    def exported_for(architecture: Architecture) -> Exported:
        size = choose_crop(architecture, crop)
        export = partial(
            checked_export, model, architecture, dataset, reporter, crop=size, seed=seed, threads=threads, first=True
        )  # fmt: skip
        found: Exported = once(("file", repr(architecture.input), size), export)
        return found

    architecture = adapt_input(base, techniques)
    try:
        return architecture, exported_for(architecture)
    except (ExportError, DisagreementError) as error:
        refused = error
    for changes in _narrower(architecture.input, refused):
        architecture = adapt_input(restrict_input(base, **changes), techniques)
        try:
            exported = exported_for(architecture)
        except (ExportError, DisagreementError):
            continue
        reporter.note(
            f"The exported file accepts only {sizes_text(architecture.input)}; exporting for arbitrary sizes failed: "
            f"{_reason(refused)[:200]}"
        )
        return architecture, exported
    raise refused


def _reason(refused: ExportError | DisagreementError) -> str:
    return refused.reason if isinstance(refused, ExportError) else refused.message


def _narrower(spec: InputSpec, refused: ZooError) -> Iterator[dict[str, Any]]:
    """Yield changes to the input, each leaving fewer sizes than the one before."""
    height, width = spec.example
    if spec.fixed_size:
        return
    divides = _MULTIPLE % spec.multiple_of == 0 and not (height % _MULTIPLE or width % _MULTIPLE)
    # Formulas of sizes that are too long for any size are hardly ever shorter for multiples, and take as long to form.
    if divides and not isinstance(refused.__cause__, SymbolicShapeTooComplex):
        yield {"multiple_of": _MULTIPLE}
    yield {"fixed_size": True}
