"""How much each choice explains of what was measured."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna import Study


def importances(study: Study, place: int, without: AbstractSet[int]) -> dict[str, float]:
    """Return how much each parameter explains of the value at `place`, by name, by PED-ANOVA.

    Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces", IJCAI 2023.

    Args:
        study: The study.
        place: Of the value among those that are minimised.
        without: Numbers of trials whose values are not measurements.

    Returns:
        Shares that add up to 1; empty where nothing can be said.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    completed = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name == "COMPLETE" and trial.values and trial.number not in without
    ]
    measured = optuna.create_study(directions=study.directions)
    measured.add_trials(completed)
    found: dict[str, float] = {}
    for name in sorted({name for trial in completed for name in trial.params}):
        values = {str(trial.params[name]) for trial in completed if name in trial.params}
        if len(values) < 2:
            continue
        with warnings.catch_warnings(), contextlib.suppress(ValueError, RuntimeError, ZeroDivisionError):
            warnings.simplefilter("ignore")
            found |= optuna.importance.get_param_importances(
                measured, evaluator=PedAnovaImportanceEvaluator(), params=[name],
                target=lambda trial: trial.values[place], normalize=False,
            )  # fmt: skip
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total else {}
