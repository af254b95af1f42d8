"""Knowledge distillation: training towards what a better network gives, at its output and inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Context, LossTerm, Phase, Teacher, Technique
from zoo.errors import UsageError, ZooError
from zoo_techniques.distill.config import DistillConfig

if TYPE_CHECKING:
    from torch import nn

    from zoo_techniques.distill.lesson import Lesson


class Distill(Technique):
    """Trains the rewritten network towards a teacher: its output, and the features at the end of each block.

    Python code may hand a module over as the teacher, which then takes the inputs that the student takes.
    """

    id: ClassVar[str] = "distill"
    summary: ClassVar[str] = "train towards a teacher's output and intermediate features"
    paper: ClassVar[str] = (
        "Hinton et al., Distilling the Knowledge in a Neural Network, 2015; Romero et al., FitNets, ICLR 2015; "
        "Vaze et al., Low-Memory CNNs, IEEE JBHI 2020"
    )
    phase: ClassVar[Phase] = Phase.TRAINING
    Config: ClassVar[type] = DistillConfig
    config: DistillConfig

    def __init__(self, config: DistillConfig | None = None, teacher: nn.Module | None = None) -> None:
        super().__init__(config)
        if teacher is not None and self.config.teacher:
            raise UsageError("distill needs a teacher by name or as a module, not both.")
        self._module = teacher
        self._lesson: Lesson | None = None

    def teachers(self) -> Sequence[str]:
        return (self.config.teacher,) if self.config.teacher else ()

    def identity(self) -> str:
        """Return the digest of a teacher that was handed over; the recipe already names any other."""
        from zoo.modules.state_digest import state_digest

        return "" if self._module is None else state_digest(self._module.state_dict())

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network as it is, having found which of its features match which of the teacher's."""
        from zoo_techniques.distill.lesson import Lesson

        self._lesson = Lesson(self.config, self._teacher(context), model, context)
        return model

    def objective(self, context: Context) -> Sequence[LossTerm]:
        assert self._lesson is not None, "rewrite() comes first"
        return self._lesson.terms()

    def _teacher(self, context: Context) -> Teacher:
        if self.config.teacher:
            if context.load_teacher is None:
                raise ZooError("distill cannot load a teacher by name here.", hint="Pass it as a module.")
            return context.load_teacher(self.config.teacher)
        net = context.teacher if self._module is None else self._module
        if net is None:
            raise ZooError("distill has no teacher: there is no network before the recipe.", hint=_HINT)
        from zoo.modules.copying import copied

        architecture = context.architecture
        net = copied(net).eval()
        return Teacher(net, architecture.input, architecture.output, architecture.feature_blocks(), "")


_HINT = "Name one:  distill(teacher=ARTIFACT)"
