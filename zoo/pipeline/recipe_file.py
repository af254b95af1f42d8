"""The recipe file an artifact carries: what to type to make it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from zoo.errors import UsageError
from zoo.pipeline.request import Request
from zoo.recipes.recipe_toml import RecipeFile, dumps
from zoo.training.schedule import Budget

if TYPE_CHECKING:
    from zoo.pipeline.request import Job
    from zoo.training.loop import Precision, TrainingResult

_PRECISIONS = ("auto", "float32", "bfloat16")


def recipe_text(job: Job, trainings: Sequence[TrainingResult]) -> str:
    """The TOML text that repeats a run exactly, on the machine it was made on.

    It states the steps that each training really made, so that a run given minutes can be repeated, and what the
    precision "auto" turned out to be.
    """
    request = job.request
    assert job.recipe is not None
    return dumps(
        RecipeFile(
            recipe=job.recipe.recipe,
            architecture=job.architecture.named or request.architecture,
            seed=request.seed,
            steps=tuple(training.steps for training in trainings) or None,
            data=job.data,
            weights=request.weights,
            batch=request.batch,
            crop=job.crop,
            learning_rate=request.learning_rate,
            precision=trainings[-1].precision if trainings else request.precision,
            half_weights=request.half_weights or None,
        )
    )


def with_file(request: Request, file: RecipeFile) -> Request:
    """`request` with everything that a recipe file says. Raises UsageError for a precision that does not exist."""
    if file.precision is not None and file.precision not in _PRECISIONS:
        raise UsageError(f"The precision '{file.precision}' is unknown; there are {', '.join(_PRECISIONS)}.")
    budgets = request.budgets
    if file.steps is not None:
        budgets = tuple(Budget(steps=count) for count in file.steps)
    elif file.minutes is not None:
        budgets = (Budget(minutes=file.minutes),)
    said = {
        "architecture": file.architecture,
        "seed": file.seed,
        "data": file.data,
        "weights": file.weights,
        "batch": file.batch,
        "crop": file.crop,
        "learning_rate": file.learning_rate,
        "precision": cast("Precision | None", file.precision),
        "half_weights": file.half_weights,
    }
    changes = {name: value for name, value in said.items() if value is not None}
    return dataclasses.replace(request, recipe=file.recipe, budgets=budgets, **changes)  # type: ignore[arg-type]
