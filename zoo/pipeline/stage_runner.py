"""Carrying a network through the training stages of a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo import plugins
from zoo.contracts import Context, LossTerm, SilentReporter
from zoo.data.calibration import CALIBRATION_BATCHES, calibration_batch, calibration_crops
from zoo.errors import PluginError, ZooError
from zoo.modules.copying import copied
from zoo.modules.state_digest import state_digest
from zoo.pipeline.effect import check_rewrite, snapshot
from zoo.pipeline.fitting_images import images_to_fit
from zoo.pipeline.shared_minutes import SharedMinutes
from zoo.surgery.agreement import check_repeatable
from zoo.training.feed import collate
from zoo.training.held_out import held_out_losses
from zoo.training.inputs import normalise, random_tensor
from zoo.training.loop import TrainingResult, TrainingSettings, as_trained, modules_of, train

if TYPE_CHECKING:
    from zoo.contracts import Reporter, Technique
    from zoo.pipeline.stage_store import StageStore
    from zoo.pipeline.stages import StagePlan, TrainingStage
    from zoo.training.schedule import Budget

#: The highest learning rate with changed arithmetic: a higher one would destabilise a trained network.
_NUMERICS_RATE = 1e-4


@dataclass(frozen=True)
class StageResult:
    """A network after one of its stages.

    Attributes:
        stage: The stage.
        recipe: The techniques so far, joined as in a recipe; "train" if there are none.
        trained: The network to train further, in eval mode. The next stage changes it in place.
        finished: A copy on which all techniques so far have finished, to be exported.
        training: What the training did; None if the stage does not train.
        reused: Whether that training was an earlier run's, whose result was kept.
    """

    stage: TrainingStage
    recipe: str
    trained: nn.Module
    finished: nn.Module
    training: TrainingResult | None = None
    reused: bool = False


class StageRunner:
    """Rewrite, train and finish a network as planned.

    Args:
        plan: What to do.
        original: The network before the recipe, which stays as it is.
        reporter: Where progress is reported.
        work: Folder for the state of an interrupted training.
        store: Where the results of trained stages are kept and looked for; None for nowhere.
    """

    def __init__(
        self,
        plan: StagePlan,
        original: nn.Module,
        reporter: Reporter,
        work: Path,
        store: StageStore | None = None,
    ) -> None:
        self.plan = plan
        self.original = original
        self.terms: list[LossTerm] = []
        self._reporter = reporter
        self._work = work
        self._store = store
        #: the network before the last stage, how many layers were skipped, how many loss terms there were
        self._start: tuple[nn.Module, int, int] | None = None
        spec = plan.architecture.input
        crop = example = next(iter(self._inputs(1, plan.batch)))
        if tuple(example.shape[2:]) != spec.example:
            example = normalise(random_tensor(spec, plan.seed), spec)
        check_repeatable(original, example[:1])
        size = calibration_batch(plan.architecture, plan.batch)
        self.context = Context(
            architecture=plan.architecture,
            example_input=example[:1],
            calibration=lambda: self._inputs(CALIBRATION_BATCHES * size, size),
            teacher=original,
            seed=plan.seed,
            report=reporter,
            load_teacher=plan.load_teacher,
            calibration_images=lambda images: self._inputs(images, size),
            fitting_images=images_to_fit(original, spec, crop[:1]),
        )

    def _inputs(self, images: int, size: int) -> Iterable[torch.Tensor]:
        """Yield that many images in batches of `size`, the last of which may be smaller."""
        plan = self.plan
        crops = calibration_crops(plan.dataset, plan.architecture, plan.crop, plan.seed, images)
        while batch := list(islice(crops, size)):
            yield normalise(collate(batch).inputs, plan.architecture.input)

    def run(self, after_rewrite: Callable[[nn.Module], None] | None = None) -> Iterator[StageResult]:
        """Yield the network after each stage, the last one's finished.

        Args:
            after_rewrite: Called with the network of the first stage before it is trained.
        """
        model = copied(self.original)
        budgets = SharedMinutes(self.plan.budgets)
        for index, stage in enumerate(self.plan.stages):
            self._begin(model, stage)
            model = self.rewrite(model, stage)
            if index == 0 and after_rewrite is not None:
                after_rewrite(model)
            training, reused = None, False
            if stage.trains:
                model, training, reused = self._train(model, index, budgets.next())
                budgets.spend(training.seconds)
            done = self.plan.stages[: index + 1]
            finished = self.finish(model, [each for stage in done for each in stage.techniques])
            recipe = "+".join(stage.name for stage in done)
            yield StageResult(stage, recipe, model, finished, training, reused)

    def _begin(self, model: nn.Module, stage: TrainingStage) -> None:
        """Keep what a stage starts from, if it may be asked to start again."""
        if not stage.trains and any(each.with_float_layers(()) is not None for each in stage.techniques):
            self._start = copied(model), len(self.context.skipped_layers), len(self.terms)

    def redo(self, done: StageResult, other: TrainingStage) -> StageResult:
        """Return the result of the last stage with other techniques in place of its own; it must not train.

        What the techniques report takes the place of what was reported before.
        """
        assert self._start is not None, "the stage was one that can start again"
        model, layers, terms = self._start
        del self.context.skipped_layers[layers:], self.terms[terms:]
        report, self.context.report = self.context.report, SilentReporter()
        try:
            model = self.rewrite(copied(model), other)
            earlier = self.plan.stages[: self.plan.stages.index(done.stage)]
            finished = self.finish(model, [each for stage in (*earlier, other) for each in stage.techniques])
        finally:
            self.context.report = report
        return replace(done, stage=other, trained=model, finished=finished)

    def rewrite(self, model: nn.Module, stage: TrainingStage) -> nn.Module:
        """Apply the rewrites of a stage in order, checking after each that something really changed."""
        for technique in stage.techniques:
            before = snapshot(model, self.context.example_input)
            with _named(technique):
                model = technique.rewrite(model.eval(), self.context)
                terms = list(technique.objective(self.context))
            after = snapshot(model, self.context.example_input)
            check_rewrite(technique, before, after, adds_objective=bool(terms))
            self.terms += terms
        return model

    def finish(self, model: nn.Module, techniques: Iterable[Technique]) -> nn.Module:
        """Return a copy of the network on which the techniques have taken their last step, in order, in eval mode."""
        model = copied(model)
        for technique in techniques:
            with _named(technique):
                model = technique.finish(model.eval(), self.context)
        return model.eval()

    def left_alone(self) -> list[dict[str, str]]:
        """Return the layers that no technique could handle, with the reason."""
        return [asdict(layer) for layer in self.context.skipped_layers]

    def _train(self, model: nn.Module, index: int, budget: Budget) -> tuple[nn.Module, TrainingResult, bool]:
        """Train after a stage's rewrites, or take the result that was kept; True if it was kept."""
        if self._store is None:
            return (*self._trained(model, index, budget), False)
        stage = self.plan.stages[index]
        whole = nn.ModuleList([model, modules_of(self.terms)])
        key = f"{self.plan.stage_keys[index]}/{state_digest(whole.state_dict())}"
        kept = self._store.load(stage, key, whole)
        if kept is not None:
            return as_trained(model), kept, True
        model, result = self._trained(model, index, budget)
        self._store.save(stage, key, nn.ModuleList([model, modules_of(self.terms)]), result)
        return model, result, False

    def _trained(self, model: nn.Module, index: int, budget: Budget) -> tuple[nn.Module, TrainingResult]:
        """Train; a run that was interrupted continues where it stopped."""
        plan, stage = self.plan, self.plan.stages[index]
        start = copied(model) if self._comparable() else None
        rate = min(plan.learning_rate, _NUMERICS_RATE) if stage.numerics else plan.learning_rate
        model, result = train(
            model,
            architecture=plan.architecture,
            dataset=plan.dataset,
            settings=TrainingSettings(budget, plan.batch, plan.crop, rate, plan.precision, plan.seed),
            reporter=self._reporter,
            teacher=copied(self.original),
            terms=self.terms,
            state=self._work / f"stage-{index}.safetensors",
            key=f"{plan.key}/{index}",
            title=f"train {stage.name}",
            freeze_norm=bool(stage.techniques),
        )
        if start is not None and result.steps:
            model = self._better(start, model, result, index)
        return model, result

    def _comparable(self) -> bool:
        """Whether the loss of the task says all that training aims at, and takes what networks output in eval mode."""
        return not (self.terms or plugins.task_of(self.plan.architecture).whole_output)

    def _better(self, start: nn.Module, end: nn.Module, result: TrainingResult, index: int) -> nn.Module:
        """Return the network before or after a training, whichever computes better when finished.

        A few steps, or a machine that makes few in the minutes it is given, can take a network away from a good start
        without leading it to a better end.
        """
        plan = self.plan
        techniques = [each for stage in plan.stages[: index + 1] for each in stage.techniques]
        result.held_out = held_out_losses(
            [self.finish(start, techniques), self.finish(end, techniques)], plan.architecture, plan.dataset,
            size=plan.crop, batch=plan.batch, seed=plan.seed, teacher=self.original,
        )  # fmt: skip
        before, after = result.held_out
        if math.isnan(before) or after <= before:
            return end
        self._reporter.note(
            f"train {plan.stages[index].name}: the network is kept as it was before training, since {result.steps} "
            f"steps took its loss on other crops from {before:.4g} to {after:.4g}. Try more steps or a lower "
            "--learning-rate."
        )
        return start


@contextmanager
def _named(technique: Technique) -> Iterator[None]:
    """Turn whatever goes wrong inside into a ZooError that names the technique."""
    try:
        yield
    except ZooError as error:
        if technique.id not in error.message:
            error.message = f"{technique.id}: {error.message}"
        raise
    except Exception as error:
        raise PluginError(
            f"{technique.id} failed on this network: {type(error).__name__}: {error}",
            hint="This is a bug in the technique; report it to its author with the network's name.",
        ) from error
