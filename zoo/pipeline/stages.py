"""Running the techniques of a recipe on a net, training in between."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.contracts import Context, LossTerm, Phase
from zoo.data.calibration import CALIBRATION_BATCHES, calibration_crops
from zoo.errors import PluginError, ZooError
from zoo.pipeline.effect import check_rewrite, snapshot
from zoo.training.feed import collate
from zoo.training.inputs import normalise
from zoo.training.loop import TrainingResult, TrainingSettings, train

if TYPE_CHECKING:
    from zoo.contracts import Reporter, Technique
    from zoo.pipeline.request import Job
    from zoo.training.schedule import Budget

#: the highest rate of training with changed arithmetic: it only settles a trained net, more would unsettle it
_NUMERICS_RATE = 1e-4


@dataclass(frozen=True)
class Stage:
    """The techniques applied before one training, or with none after them."""

    techniques: tuple[Technique, ...]

    @property
    def name(self) -> str:
        """Their ids, joined as in a recipe; "train" if there are none."""
        return "+".join(technique.id for technique in self.techniques) or "train"

    @property
    def trains(self) -> bool:
        """Whether training follows the rewrites: not if all of them are post-training methods."""
        return not self.techniques or any(technique.needs_training for technique in self.techniques)


def stages_of(techniques: Iterable[Technique]) -> list[Stage]:
    """Structure and training techniques share one training in float; numerics techniques share the one after."""
    techniques = tuple(techniques)
    parts = (
        tuple(t for t in techniques if t.phase is not Phase.NUMERICS),
        tuple(t for t in techniques if t.phase is Phase.NUMERICS),
    )
    return [Stage(part) for part in parts if part] or [Stage(())]


@dataclass
class StageRunner:
    """Carries a net through the stages of a job."""

    job: Job
    original: nn.Module
    reporter: Reporter
    work: Path
    key: str
    context: Context = field(init=False)
    terms: list[LossTerm] = field(default_factory=list)

    def __post_init__(self) -> None:
        spec = self.job.architecture.input
        example = next(iter(self._inputs(1)))
        if tuple(example.shape[2:]) != spec.example:
            generator = torch.Generator().manual_seed(self.job.request.seed)
            raw = torch.rand(1, spec.channels, *spec.example, generator=generator)
            example = normalise(raw, spec)
        self.context = Context(
            architecture=self.job.architecture,
            example_input=example[:1],
            calibration=lambda: self._inputs(CALIBRATION_BATCHES),
            teacher=self.original,
            seed=self.job.request.seed,
            report=self.reporter,
        )

    def _inputs(self, batches: int) -> Iterable[torch.Tensor]:
        job = self.job
        size = job.request.batch
        crops = calibration_crops(job.dataset, job.architecture, job.crop, job.request.seed, batches * size)
        for _ in range(batches):
            yield normalise(collate(list(islice(crops, size))).inputs, job.architecture.input)

    def rewrite(self, model: nn.Module, stage: Stage) -> nn.Module:
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

    def train(
        self, model: nn.Module, stage: Stage, index: int, budget: Budget
    ) -> tuple[nn.Module, TrainingResult]:
        """Train after a stage's rewrites; a run that was interrupted goes on where it stopped."""
        request = self.job.request
        numerics = any(technique.phase is Phase.NUMERICS for technique in stage.techniques)
        assert request.learning_rate is not None  # settled before the first stage
        learning_rate = min(request.learning_rate, _NUMERICS_RATE) if numerics else request.learning_rate
        return train(
            model,
            architecture=self.job.architecture,
            dataset=self.job.dataset,
            settings=TrainingSettings(
                budget, request.batch, self.job.crop, learning_rate, request.precision, request.seed
            ),
            reporter=self.reporter,
            teacher=copy.deepcopy(self.original),
            terms=self.terms,
            state=self.work / f"stage-{index}.safetensors",
            key=f"{self.key}/{index}",
            title=f"train {stage.name}",
            freeze_norm=bool(stage.techniques),
        )

    def finish(self, model: nn.Module, stage: Stage) -> nn.Module:
        """The last step of each technique, in order."""
        for technique in stage.techniques:
            with _named(technique):
                model = technique.finish(model.eval(), self.context)
        return model.eval()

    def left_alone(self) -> list[dict[str, str]]:
        """Layers no technique could handle, with the reason."""
        return [asdict(layer) for layer in self.context.skipped_layers]


@contextmanager
def _named(technique: Technique) -> Iterator[None]:
    """Whatever goes wrong inside is the technique's: a ZooError that names it."""
    try:
        yield
    except ZooError as error:
        if technique.id not in error.message:
            error.message = f"{technique.id}: {error.message}"
        raise
    except Exception as error:
        raise PluginError(
            f"{technique.id} failed on this net: {type(error).__name__}: {error}",
            hint="This is a mistake in the technique; report it to its author with the net's name.",
        ) from error
