"""Applying a recipe from Python, as `zoo apply` does."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import SilentReporter
from zoo.errors import UsageError
from zoo.extras import require
from zoo.pipeline.plan import plan
from zoo.pipeline.request import ApplyRequest, make_request
from zoo.recipes import recipe_toml
from zoo.recipes.grammar import Recipe, parse

if TYPE_CHECKING:
    from zoo.contracts import Reporter
    from zoo.pipeline.result import Result
    from zoo.training.schedule import Precision


def apply(
    architecture: str | None,
    recipe: str | Recipe | Path | None,
    *,
    out: str | Path | None = None,
    minutes: float | None = None,
    steps: int | Sequence[int] | None = None,
    data: str | None = None,
    photos: Sequence[str | Path] = (),
    weights: str | None = None,
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
    reporter: Reporter | None = None,
) -> Result:
    """Compress a network with a recipe: rewrite, train, export, measure, write the artifact.

    Arguments that are left at None are taken from the recipe file if there is one, else from the defaults of
    :class:`zoo.pipeline.request.ApplyRequest`, which describes them.

    Args:
        architecture: Its id, or a network of your own as ``module.py:factory``; None for the one that a recipe file
            names.
        recipe: ``depthwise+qat``, a parsed recipe, the path of a recipe file, or None to train the architecture as
            it is.
        out: The artifact folder; by default one in ``out/``, named after the architecture and the recipe.
        minutes: Limit of the training time, all stages together; measuring and exporting come on top.
        steps: Training steps instead of minutes, for all stages together or one number for each.
        max_loss: What a stage may lose of the task's first measure: "1pt" (points, hundredths), "0.3dB", a number in
            what the measure is counted in, "auto" for the task's own limit; None for any.
        accept_disagreement: Go on where a rewritten graph or an exported file computes something else than the network;
            what disagrees is in :attr:`zoo.pipeline.result.Result.accepted` and in the artifact.
        trust_code: Execute Python files that only the recipe file names.
        reporter: Where progress is reported; by default nowhere.

    Returns:
        The artifact, with what was measured before and after.

    Raises:
        ZooError: One of its subclasses; nothing is written to `out` then.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "From Python, a recipe is applied in one process.",
            hint="Start several with:  accelerate launch -m zoo_cli apply ...",
        )
    stated = {
        "out": None if out is None else Path(out),
        "minutes": minutes,
        "steps": (steps,) if isinstance(steps, int) else steps and tuple(steps),
        "data": data,
        "photos": tuple(map(Path, photos)) or None,
        "weights": weights,
        "weights_key": weights_key,
        "partial": partial,
        "seed": seed,
        "batch": batch,
        "crop": crop,
        "learning_rate": learning_rate,
        "precision": precision,
        "half_weights": half_weights,
        "keep_stages": None if keep_stages is None else Path(keep_stages),
    }
    request = make_request(
        recipe_toml.read(recipe)
        if isinstance(recipe, Path)
        else parse(recipe)
        if isinstance(recipe, str)
        else recipe,
        architecture,
        max_loss=max_loss,
        device=device,
        runner_only=runner_only,
        images=images,
        threads=threads,
        accept_disagreement=accept_disagreement,
        trust_code=trust_code,
        **{name: value for name, value in stated.items() if value is not None},
    )
    result = apply_request(request, reporter or SilentReporter())
    assert result is not None  # this is the only process
    return result


def apply_request(request: ApplyRequest, reporter: Reporter) -> Result | None:
    """Plan a request and carry it out.

    An interrupted run leaves its training state next to the output folder, in ``<out>.work``; the same
    request continues from there. An illegal recipe is refused before torch is imported.

    Returns:
        The result; None in every process except the first of a distributed run.

    Raises:
        ZooError: The request cannot be carried out; nothing is written to ``request.out`` before all is well.
    """
    started = time.monotonic()
    with _accepting(request) as accepted:
        planned = plan(request, reporter)
        from zoo.pipeline.pipeline import carry_out

        return carry_out(planned, reporter, started, accepted)


def _accepting(request: ApplyRequest) -> AbstractContextManager[list[str] | None]:
    if not request.accept_disagreement:
        return nullcontext()
    require("torch", "Compressing a network")
    from zoo.surgery.agreement import accept_disagreement

    return accept_disagreement()
