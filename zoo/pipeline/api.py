"""Applying a recipe from Python, as `zoo apply` does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import SilentReporter
from zoo.errors import UsageError
from zoo.extras import require
from zoo.pipeline.plan import plan
from zoo.pipeline.program_inputs import own_architecture, own_data, words_of_python
from zoo.pipeline.request import ApplyRequest, make_request
from zoo.progress import in_notebook, progress
from zoo.recipes import recipe_toml
from zoo.recipes.grammar import Recipe, parse

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.contracts import Architecture, Reporter, Task
    from zoo.pipeline.originals import Originals
    from zoo.pipeline.program_inputs import Loss, Metrics
    from zoo.pipeline.result import Result
    from zoo.training.schedule import Precision


def apply(
    architecture: nn.Module | Architecture | str | None,
    recipe: str | Recipe | Path | None,
    *,
    example: Tensor | Sequence[Tensor] | Mapping[str, Tensor] | None = None,
    loss: Loss | None = None,
    metric: Metrics | None = None,
    test: Any = None,
    task: Task | str | None = None,
    input: str = "",  # noqa: A002
    output: str = "",
    fixed_size: bool = False,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    out: str | Path | None = None,
    minutes: float | None = None,
    steps: int | Sequence[int] | None = None,
    data: Any = None,
    photos: Sequence[str | Path] = (),
    weights: str | Path | None = None,
    weights_key: str | None = None,
    partial: bool | None = None,
    seed: int | None = None,
    batch: int | None = None,
    crop: int | None = None,
    learning_rate: float | None = None,
    precision: Precision | None = None,
    max_loss: float | str | None = "auto",
    device: str = "",
    half_weights: bool | None = None,
    runner_only: bool = False,
    images: int | None = None,
    threads: int = 0,
    keep_stages: str | Path | None = None,
    accept_disagreement: bool = False,
    trust_code: bool = False,
    skip_bad: bool = False,
    reporter: Reporter | None = None,
) -> Result:
    """Compress a network with a recipe: rewrite, train, export, measure, write the artifact.

    Arguments that are left at None are taken from the recipe file if there is one, else from the defaults of
    :class:`zoo.pipeline.request.ApplyRequest`, which describes them.

    Args:
        architecture: A module, which is copied and never changed; the id of an architecture; a network of your own as
            ``module.py:factory`` or ``model.onnx``; None for the one that a recipe file names.
        recipe: ``depthwise+qat``, a parsed recipe, the path of a recipe file, or None to train the architecture as
            it is.
        example: An input of a module, (N, C, H, W), or of any other shape with a batch dimension; several in a tuple,
            or by name in a dictionary; by default the first sample of the data.
        loss: What training minimises, called with (outputs, targets) of a batch: what the network returns, which may be
            a tuple or dictionary of tensors, and a tensor; by default the task's loss, or without targets the
            difference from the original network.
        metric: What files are measured by: called with (outputs, targets) of up to 64 images, as the loss is, and
            averaged over the images; or several by name. The outputs are those of the exported file in ONNX Runtime.
            The name of a built-in measure, such as "top1", is shown like that; a key may be a
            :class:`zoo.contracts.Metric`.
        data: Batches for training and calibration: a DataLoader, a list, or anything else that yields tensors,
            (inputs, targets) or dictionaries; arrays, alone or as (inputs, targets); a dataset; or the name of one with
            its options. An iterator that can be run through only once is kept in memory, up to 1 GiB.
        test: What files are measured on, in the same forms; by default one of five samples of the data.
        task: Its id, or a task; by default the one that the output suggests.
        input: Input of a module or file, as in "rgb:3x224x224"; by default what the example shows.
        output: Output of a module or file, as in "mask:1" or "tensor:8", where it is not logits.
        fixed_size: Whether a module accepts only inputs of the example's size.
        mean: Per channel, subtracted inside the exported file, if the data is not normalised.
        std: Per channel, divided by inside the exported file.
        out: The artifact folder; by default one in ``out/``, named after the architecture and the recipe.
        minutes: Limit of the training time, all stages together; measuring and exporting come on top.
        steps: Training steps instead of minutes, for all stages together or one number for each.
        max_loss: What a stage may lose of the task's first measure: "1pt" (points, hundredths), "0.3dB", a number in
            what the measure is counted in, "auto" for the task's own limit; None for any.
        accept_disagreement: Go on where a rewritten graph or an exported file computes something else than the network;
            what disagrees is in :attr:`zoo.pipeline.result.Result.accepted` and in the artifact.
        trust_code: Execute Python files that only the recipe file names.
        skip_bad: Leave out files that cannot be used, where `data` names a dataset of files.
        reporter: Where progress is reported; by default bars in a notebook, and nowhere else.

    Returns:
        The artifact, with what was measured before and after, and the finished module.

    Raises:
        ZooError: One of its subclasses; nothing is written to `out` then.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "From Python, a recipe is applied in one process.",
            hint="Start several with:  accelerate launch -m zoo_cli apply ...",
        )
    with words_of_python(), _shown(reporter) as shown:
        if skip_bad:
            from zoo.data.choose import leaving_out_bad

            data = leaving_out_bad(data if isinstance(data, str) else "")
        dataset = own_data(data, test, architecture, example)
        network = own_architecture(
            architecture, dataset, example, loss=loss, metric=metric, task=task, input=input, output=output,
            fixed_size=fixed_size, mean=tuple(mean), std=tuple(std),
        )  # fmt: skip
        stated = {
            "out": None if out is None else Path(out),
            "minutes": minutes,
            "steps": (steps,) if isinstance(steps, int) else steps and tuple(steps),
            "data": dataset,
            "photos": tuple(map(Path, photos)) or None,
            "weights": None if weights is None else str(weights),
            "weights_key": weights_key,
            "partial": partial,
            "seed": seed,
            "batch": batch,
            "crop": crop,
            "learning_rate": learning_rate,
            "precision": precision,
            "half_weights": half_weights,
            "keep_stages": None if keep_stages is None else Path(keep_stages),
            **({"input": input, "output": output} if isinstance(network, str) else {}),
        }
        request = make_request(
            recipe_toml.read(recipe)
            if isinstance(recipe, Path)
            else parse(recipe)
            if isinstance(recipe, str)
            else recipe,
            network,
            max_loss=max_loss,
            device=device,
            runner_only=runner_only,
            images=images,
            threads=threads,
            accept_disagreement=accept_disagreement,
            trust_code=trust_code,
            **{name: value for name, value in stated.items() if value is not None},
        )
        result = apply_request(request, shown)
        assert result is not None  # this is the only process
        return result


@contextmanager
def _shown(reporter: Reporter | None) -> Iterator[Reporter]:
    """Yield the reporter that was passed; without one, bars in a notebook and silence elsewhere."""
    if reporter is not None:
        yield reporter
    elif in_notebook():
        with progress() as bars:
            yield bars
    else:
        yield SilentReporter()


def apply_request(
    request: ApplyRequest, reporter: Reporter, originals: Originals | None = None
) -> Result | None:
    """Plan a request and carry it out.

    An interrupted run leaves its training state next to the output folder, in ``<out>.work``; the same
    request continues from there. An illegal recipe is refused before torch is imported.

    Args:
        request: What to do.
        reporter: Shows progress.
        originals: What runs on the same network found out about it; None to find everything out.

    Returns:
        The result; None in every process except the first of a distributed run.

    Raises:
        ZooError: The request cannot be carried out; nothing is written to ``request.out`` before all is well.
    """
    started = time.monotonic()
    if request.preset:
        reporter.note(f"{request.preset}: the recipe {request.recipe}")
    with _accepting(request) as accepted:
        planned = plan(request, reporter, originals)
        from zoo.pipeline.pipeline import carry_out

        return carry_out(planned, reporter, started, accepted)


def _accepting(request: ApplyRequest) -> AbstractContextManager[list[str] | None]:
    if not request.accept_disagreement:
        return nullcontext()
    require("torch", "Compressing a network")
    from zoo.surgery.agreement import accept_disagreement

    return accept_disagreement()
