"""The recipe file in an artifact, which reproduces it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.recipes.recipe_toml import RecipeFile, dumps

if TYPE_CHECKING:
    from zoo.pipeline.plan import ApplyPlan
    from zoo.training.loop import TrainingResult

_NOT_TEXT_ALONE = """\
# A Python program passed the network or its data, so this text alone cannot reproduce the artifact: pass both again,
# zoo.apply(model, Path("recipe.toml"), data=...).
"""


def recipe_text(plan: ApplyPlan, trainings: Sequence[TrainingResult]) -> str:
    """Return the TOML text that repeats a run exactly, on the machine it was made on.

    It states the steps that each training really made, so that a run given minutes can be repeated, and what the
    precision "auto" turned out to be.
    """
    request = plan.request
    assert plan.recipe is not None
    remark = ""
    if not (isinstance(request.architecture, str) and isinstance(request.data, str)):
        remark = _NOT_TEXT_ALONE
    return remark + dumps(
        RecipeFile(
            recipe=plan.recipe.recipe,
            architecture=plan.architecture.named or plan.name,
            seed=request.seed,
            steps=tuple(training.steps for training in trainings) or None,
            data=plan.data,
            weights=request.weights,
            weights_key=request.weights_key or None,
            partial=request.partial or None,
            batch=request.batch,
            crop=plan.crop if isinstance(plan.crop, int) else None,
            learning_rate=plan.stages.learning_rate,
            precision=trainings[-1].precision if trainings else request.precision,
            half_weights=plan.half_weights or None,
        )
    )
