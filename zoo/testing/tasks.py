"""The promises of the task contract, one test each."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np

from zoo.contracts import Metric, OutputSpec, Scorer, Shown, Task
from zoo.contracts.architecture import OutputKind
from zoo.contracts.task import PRESETS, LossUnit
from zoo.recipes.canonical import resolve
from zoo.testing.declarations import PluginChecks

if TYPE_CHECKING:
    from zoo.contracts import FloatArray, TargetArray

    Example = tuple[FloatArray, TargetArray]

_INPUTS = np.full((3, 32, 32), 0.5, np.float32)


def task_checks(task: type[Task], *, output: OutputSpec, examples: Sequence[Example]) -> type[TaskChecks]:
    """Return a class of tests for `task`; assign it to a name that starts with ``Test``.

    Args:
        task: The class that the entry point names.
        output: An output that it is for.
        examples: Predictions and targets of at least two images, without batch dimension. The images may not be of
            one size.
    """
    attributes = {"task": task, "output": output, "examples": tuple(examples)}
    return type(f"Test{task.__name__}", (TaskChecks,), attributes)


class TaskChecks(PluginChecks):
    """One test for each promise. Use :func:`task_checks` to make a class of it for a task."""

    task: ClassVar[type[Task]]
    output: ClassVar[OutputSpec]
    examples: ClassVar[tuple[Example, ...]]

    @classmethod
    def subject(cls) -> type[Task]:
        return cls.task

    @classmethod
    def scored(cls, examples: Sequence[Any]) -> Scorer:
        """Return a new scorer that was given the examples."""
        scorer = cls.task().scorer(cls.output)
        for prediction, target in examples:
            scorer.add(prediction, target)
        return scorer

    # ------------------------------------------------------------------------------------- declarations

    def test_its_outputs_are_known(self) -> None:
        assert self.task.outputs, "name the kinds of output that it is for"
        assert set(self.task.outputs) <= set(get_args(OutputKind))
        assert self.output.kind in self.task.outputs

    def test_its_presets_are_legal_recipes(self) -> None:
        assert set(self.task.presets) <= set(PRESETS)
        for recipe in self.task.presets.values():
            resolve(recipe)

    def test_its_measures_are_well_formed(self) -> None:
        assert self.task.measures, "a task without a measure cannot say what compression costs"
        keys = [metric.key for metric in self.task.measures]
        assert len(set(keys)) == len(keys), "two measures share a key"
        for metric in self.task.measures:
            assert isinstance(metric, Metric)
            assert metric.key.isidentifier()
            assert metric.key == metric.key.lower()
            assert metric.name, f"{metric.key} has no name"
            assert metric.loss_unit in get_args(LossUnit)
            assert metric.limit is None or metric.limit > 0

    def test_a_loss_can_be_limited(self) -> None:
        scored = self.scored(self.examples).result()
        limited = [metric.key for metric in self.task.measures if metric.limit is not None]
        assert set(limited) & set(scored), "give a measure of this output a limit, for --max-loss"

    # ------------------------------------------------------------------------------------------ scoring

    def test_what_it_scores_are_its_measures(self) -> None:
        keys = {metric.key for metric in self.task.measures}
        scorer = self.task().scorer(self.output)
        for prediction, target in self.examples:
            assert set(scorer.add(prediction, target)) <= keys
        result, intervals = scorer.result(), scorer.intervals()
        assert result, "nothing was scored"
        assert set(result) <= keys
        assert set(intervals) <= set(result)
        assert all(math.isfinite(value) for value in result.values())
        for key, (low, high) in intervals.items():
            assert low <= result[key] <= high, f"the interval of {key} does not hold it"

    def test_the_order_of_the_images_does_not_matter(self) -> None:
        there, back = (self.scored(each).result() for each in (self.examples, self.examples[::-1]))
        assert there.keys() == back.keys()
        for key, value in there.items():
            assert math.isclose(value, back[key], rel_tol=1e-9, abs_tol=1e-12), key

    def test_scorers_do_not_share_what_they_collect(self) -> None:
        alone = self.scored(self.examples[:1]).result()
        self.scored(self.examples)
        assert self.scored(self.examples[:1]).result() == alone

    def test_scoring_changes_neither_output_nor_target(self) -> None:
        kept = [(prediction.copy(), target.copy()) for prediction, target in self.examples]
        self.scored(self.examples)
        for before, after in zip(kept, self.examples, strict=True):
            assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))

    # --------------------------------------------------------------------------------- loss, presentation

    def test_its_loss_is_a_finite_scalar_with_a_gradient(self) -> None:
        if importlib.util.find_spec("torch") is None:
            return
        import torch

        compare = self.task().loss(self.output)
        if compare is None:
            return
        for prediction, target in self.examples:
            outputs = torch.from_numpy(prediction[None].copy()).requires_grad_()
            loss = compare(outputs, torch.from_numpy(np.asarray(target)[None].copy()))
            assert loss.dim() == 0, "the loss is not a scalar"
            assert torch.isfinite(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            assert outputs.grad is not None, "the loss does not depend on the output"
            assert torch.isfinite(outputs.grad).all()

    def test_it_shows_an_output_with_and_without_names(self) -> None:
        prediction, _ = self.examples[0]
        for names in ((), ("first",)):
            shown = self.task().show(prediction, _INPUTS, self.output, names)
            assert isinstance(shown, Shown)
            assert all(isinstance(row, dict) for row in shown.findings)
            if shown.picture is not None:
                assert shown.picture.dtype == np.uint8
                assert shown.picture.ndim == 2 or shown.picture.shape[2] == 3
