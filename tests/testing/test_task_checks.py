"""The kit for tasks passes a good one and fails each broken one at the promise that it breaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.conformance import fails, failures
from zoo.contracts import Metric, OutputSpec, Shown, Task
from zoo.tasks import MeanScorer
from zoo.testing import TaskChecks, task_checks

EXAMPLES = [(np.float32([2, 1]), np.float32([1, 1])), (np.float32([3, 0]), np.float32([3, 2]))]


class Good(Task):
    contract = 1
    id = "good"
    summary = "numbers that are near others"
    outputs = ("tensor",)
    measures = (Metric("distance", "distance", higher_is_better=False, limit=1.0),)

    def loss(self, output: OutputSpec) -> Any:
        from torch.nn import functional

        return functional.mse_loss

    def scorer(self, output: OutputSpec) -> Any:
        return MeanScorer(lambda found, wanted: {"distance": float(np.abs(found - wanted).mean())})

    def show(self, prediction: Any, inputs: Any, output: OutputSpec, names: Any = ()) -> Shown:
        return Shown([{"first": float(prediction[0])}])


class Unlimited(Good):
    contract = 1
    measures = (Metric("distance", "distance"),)


class Undeclared(Good):
    contract = 1

    def scorer(self, output: OutputSpec) -> Any:
        return MeanScorer(lambda found, wanted: {"distance": 1.0, "other": 1.0})


class Changing(Good):
    contract = 1

    def scorer(self, output: OutputSpec) -> Any:
        def compare(found: Any, wanted: Any) -> dict[str, float]:
            found += 0.5
            return {"distance": float(np.abs(found - wanted).mean())}

        return MeanScorer(compare)


class Vector(Good):
    contract = 1

    def loss(self, output: OutputSpec) -> Any:
        return lambda outputs, targets: (outputs - targets).abs().mean(0)


class Silent(Good):
    contract = 1

    def show(self, prediction: Any, inputs: Any, output: OutputSpec, names: Any = ()) -> Any:
        return None


class Unknown(Good):
    contract = 1
    outputs = ("tensor", "sound")


def kit(task: type[Task]) -> type[TaskChecks]:
    return task_checks(task, output=OutputSpec("tensor", 2), examples=[(a.copy(), b) for a, b in EXAMPLES])


def test_a_good_task_passes() -> None:
    assert failures(kit(Good)) == []


@pytest.mark.parametrize(
    ("task", "promise"),
    [
        (Unlimited, "test_a_loss_can_be_limited"),
        (Undeclared, "test_what_it_scores_are_its_measures"),
        (Changing, "test_scoring_changes_neither_output_nor_target"),
        (Vector, "test_its_loss_is_a_finite_scalar_with_a_gradient"),
        (Silent, "test_it_shows_an_output_with_and_without_names"),
        (Unknown, "test_its_outputs_are_known"),
    ],
)
def test_a_broken_task_fails_at_its_promise(task: type[Task], promise: str) -> None:
    assert fails(kit(task), promise)
