"""The training stages of a recipe, and what training them needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.contracts import Phase, Teacher
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.contracts import Architecture, CropSize, Dataset, Technique
    from zoo.training.schedule import Budget, Precision

#: Share of one budget that each training gets: most of it before the arithmetic changes.
_SHARES: dict[int, tuple[float, ...]] = {0: (), 1: (1.0,), 2: (0.65, 0.35)}


@dataclass(frozen=True)
class TrainingStage:
    """The techniques applied before one training, or with none after them."""

    techniques: tuple[Technique, ...]

    @property
    def name(self) -> str:
        """Return the ids of its techniques, joined as in a recipe; "train" if there are none."""
        return "+".join(technique.id for technique in self.techniques) or "train"

    @property
    def trains(self) -> bool:
        """Return whether training follows the rewrites: not if all of them are post-training methods."""
        return not self.techniques or any(technique.needs_training for technique in self.techniques)

    @property
    def numerics(self) -> bool:
        """Return whether the arithmetic is changed."""
        return any(technique.phase is Phase.NUMERICS for technique in self.techniques)


def stages_of(techniques: Iterable[Technique]) -> tuple[TrainingStage, ...]:
    """Return the stages of a recipe: one for structure and training techniques, then one for numerics techniques."""
    techniques = tuple(techniques)
    parts = (
        tuple(t for t in techniques if t.phase is not Phase.NUMERICS),
        tuple(t for t in techniques if t.phase is Phase.NUMERICS),
    )
    return tuple(TrainingStage(part) for part in parts if part) or (TrainingStage(()),)


def share_budgets(given: Sequence[Budget], stages: Sequence[TrainingStage]) -> tuple[Budget, ...]:
    """Return the budget of each training; one budget for all is shared out, most of it to the first.

    Raises:
        UsageError: There are neither as many budgets as trainings nor one.
    """
    trainings = sum(stage.trains for stage in stages)
    if len(given) == trainings:
        return tuple(given)
    if trainings and len(given) != 1:
        raise UsageError(
            f"This recipe trains {trainings} times, but {len(given)} budgets were given.",
            hint="Use one number for everything, or one for each training.",
        )
    return tuple(given[0].share(share) for share in _SHARES[trainings])


@dataclass(frozen=True)
class StagePlan:
    """Everything that carrying a network through its training stages depends on.

    Attributes:
        architecture: With the input that it has while all stages are applied.
        stages: In order.
        budgets: One for each stage that trains.
        crop: Size of the training crops in input-tensor pixels.
        learning_rate: Of Adam, at its highest.
        load_teacher: Returns a network to learn from by name; see :attr:`zoo.contracts.Context.load_teacher`.
        key: What an interrupted training must belong to, to be resumed.
        stage_keys: For each stage, what its result depends on, as far as it is known before the network is
            rewritten; empty if results are not kept.
    """

    architecture: Architecture
    stages: tuple[TrainingStage, ...]
    dataset: Dataset
    budgets: tuple[Budget, ...]
    batch: int
    crop: CropSize
    learning_rate: float
    precision: Precision
    seed: int
    load_teacher: Callable[[str], Teacher]
    key: str
    stage_keys: tuple[str, ...] = ()
