"""Knowledge distillation: training towards what a better network gives, at its output and inside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, LossTerm, OutputSpec, Phase, Technique
from zoo.errors import UsageError, ZooError
from zoo.options import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.training.teachers import Teacher
    from zoo_techniques.distill.features import Feature, FeatureRecorder

    Difference = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DistillConfig:
    """teacher:     whom to learn from; "" for the net as it was before the recipe.
    output:      weight of the difference between the outputs.
    features:    weight of the difference between intermediate features, all together.
    task:        weight of the task's own loss against the data's targets.
    loss:        between the outputs: "l1" and "l2" mean absolute and mean squared difference; "soft" for logits
                 the divergence of the softened distributions, for masks the cross-entropy; "auto" is "soft" for
                 these two and "l1" for pictures.
    temperature: by which logits are divided before the softmax.
    """

    teacher: str = option(
        "", help="checkpoint id, artifact folder, ...; by default the network before the recipe"
    )
    output: float = option(1.0, minimum=0.0, help="weight of the difference between the outputs")
    features: float = option(10.0, minimum=0.0, help="weight of the difference between intermediate features")
    task: float = option(1.0, minimum=0.0, help="weight of the task's own loss")
    loss: Literal["auto", "l1", "l2", "soft"] = option("auto", help="difference between the outputs")
    temperature: float = option(4.0, minimum=0.1, maximum=100.0, help="softens logits before the softmax")


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
            raise UsageError("distill takes a teacher by name or as a module, not both.")
        self._module = teacher
        self._lesson: _Lesson | None = None

    @cached_property
    def _named(self) -> Teacher | None:
        from zoo.training.teachers import load_teacher

        return load_teacher(self.config.teacher) if self.config.teacher else None

    def identity(self) -> str:
        from zoo.training.weights import state_digest

        if self._module is not None:
            return state_digest(self._module.state_dict())
        return "" if self._named is None else self._named.sha256

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Leaves the net as it is; finds out which of its features can be compared with which of the teacher's."""
        from zoo.training.teachers import Teacher, block_names

        architecture = context.architecture
        blocks = block_names(architecture.stages())
        teacher = self._named
        if teacher is None:
            net = context.teacher if self._module is None else self._module
            if net is None:
                raise ZooError("distill has no teacher: there is no net before the recipe.", hint=_HINT)
            net = copy.deepcopy(net).eval()
            teacher = Teacher(net, architecture.input, architecture.output, blocks, "")
        self._lesson = _Lesson(self.config, teacher, model, blocks, context)
        return model

    def objective(self, context: Context) -> Sequence[LossTerm]:
        assert self._lesson is not None, "rewrite() comes first"
        return self._lesson.terms()


_HINT = "Name one:  distill(teacher=ARTIFACT)"


class _Lesson:
    """What one net learns from one teacher."""

    def __init__(
        self,
        config: DistillConfig,
        teacher: Teacher,
        student: nn.Module,
        blocks: tuple[str, ...],
        context: Context,
    ) -> None:
        import torch
        from torch import nn

        from zoo_techniques.distill.features import FeatureRecorder, features_of, pair_features

        self._config = config
        self._context = context
        self._spec = context.architecture.input
        self._output = context.architecture.output
        self._teacher = teacher
        _check_fit(teacher, context)
        self.difference = difference(config, self._output)
        self.pairs: list[tuple[Feature, Feature]] = []
        if config.features and teacher.readable:
            example = context.example_input
            same = set(blocks) & set(teacher.blocks)
            self.pairs = pair_features(
                features_of(student, example, same),
                features_of(teacher.net, self._for_teacher(example), same),
            )
        if config.features and not self.pairs:
            self._without_features()
        areas = [1 / (theirs.height * theirs.width) for _, theirs in self.pairs]
        self.weights = [area / sum(areas) for area in areas]
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(context.seed)
            self.adapters = nn.ModuleDict(
                {
                    str(number): nn.Conv2d(ours.channels, theirs.channels, 1)
                    for number, (ours, theirs) in enumerate(self.pairs)
                    if ours.channels != theirs.channels
                }
            )
        for parameter in teacher.net.parameters():
            parameter.requires_grad_(False)
        self._theirs = FeatureRecorder(teacher.net, [theirs for _, theirs in self.pairs])
        self._ours: FeatureRecorder | None = None
        self._inputs: Tensor | None = None
        self._answer: Tensor | None = None

    def terms(self) -> list[LossTerm]:
        """The addends of the objective; none of which the weight is zero."""
        from zoo.training.losses import task_loss

        config, task = self._config, task_loss(self._output)
        terms = []
        if config.output:
            terms.append(
                LossTerm(
                    "distill output",
                    config.output,
                    lambda inputs, outputs, targets, model: self.difference(outputs, self._ask(inputs)),
                )
            )
        if self.pairs:
            adapters = self.adapters if len(self.adapters) else None
            terms.append(
                LossTerm("distill features", config.features, self._features, adapters, self._attach)
            )
        if terms and config.task != 1:
            # the loop adds the task's loss with the weight 1
            terms.append(
                LossTerm(
                    "task",
                    config.task - 1,
                    lambda inputs, outputs, targets, model: task(outputs, _given(targets)),
                )
            )
        return terms

    def _attach(self, model: nn.Module) -> Callable[[], None]:
        """Watch the net that is trained now; after a rewrite of its arithmetic it is another one."""
        from zoo_techniques.distill.features import FeatureRecorder

        self._ours = FeatureRecorder(model, [ours for ours, _ in self.pairs])
        if self._ours.missing:
            layers = ", ".join(feature.layer for feature in self._ours.missing)
            self._context.report.note(f"distill: {layers} cannot be compared any more, the rest is")
        self._inputs = self._answer = None
        return self._detach

    def _detach(self) -> None:
        if self._ours is not None:
            self._ours.close()
        self._ours = self._inputs = self._answer = None

    def _ask(self, inputs: Tensor) -> Tensor:
        """The teacher's output for a batch; it is run once a batch for all terms."""
        import torch

        if self._answer is None or inputs is not self._inputs:
            net = self._teacher.net.to(inputs.device)
            with torch.no_grad():
                self._answer = net(self._for_teacher(inputs)).float()
            self._inputs = inputs
        return self._answer

    def _for_teacher(self, inputs: Tensor) -> Tensor:
        from zoo.training.inputs import denormalise, normalise

        if (self._spec.mean, self._spec.std) == (self._teacher.input.mean, self._teacher.input.std):
            return inputs
        return normalise(denormalise(inputs, self._spec), self._teacher.input)

    def _features(self, inputs: Tensor, outputs: Tensor, targets: Tensor | None, model: nn.Module) -> Tensor:
        assert self._ours is not None, "the training attaches the term first"
        self._ask(inputs)
        total = outputs.new_zeros(())
        for number, (ours, theirs) in enumerate(self.pairs):
            found, wanted = self._ours.get(ours), self._theirs.get(theirs)
            if found is None or wanted is None:
                continue
            if str(number) in self.adapters:
                found = self.adapters[str(number)](found)
            total = total + self.weights[number] * feature_difference(found, wanted)
        return total

    def _without_features(self) -> None:
        reason = (
            "the net and the teacher have no features of one resolution"
            if self._teacher.readable
            else "the engine runs the teacher, so its features are hidden"
        )
        if not self._config.output:
            raise UsageError(
                f"distill: {reason}.", hint="Learn from the output:  distill(output=1,features=0)"
            )
        self._context.report.note(f"distill: {reason}; only its output is learned from.")


def difference(config: DistillConfig, output: OutputSpec) -> Difference:
    """How outputs (ours, the teacher's) are compared, as a function to a scalar. Raises UsageError."""
    from torch.nn import functional

    from zoo.training.losses import binary_cross_entropy

    kind = config.loss
    if kind == "auto":
        kind = "l1" if output.kind == "rgb" else "soft"
    if kind == "l1":
        return functional.l1_loss
    if kind == "l2":
        return functional.mse_loss
    if output.kind == "rgb":
        raise UsageError("distill: loss=soft is for logits and masks; pictures take l1 or l2.")
    if output.kind == "mask":
        return binary_cross_entropy
    return lambda ours, theirs: soft_targets(ours, theirs, config.temperature)


def soft_targets(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened logits (N, classes), times the temperature squared (Hinton et al.)."""
    from torch.nn import functional

    divergence = functional.kl_div(
        (ours / temperature).log_softmax(dim=-1),
        (theirs / temperature).log_softmax(dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def feature_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean absolute difference of features (N, C, H, W), ours scaled to the size of theirs."""
    from torch.nn import functional

    ours, theirs = ours.float(), theirs.float()
    if ours.shape[-2:] != theirs.shape[-2:]:
        ours = functional.interpolate(ours, theirs.shape[-2:], mode="bilinear", align_corners=False)
    return functional.l1_loss(ours, theirs)


def _given(targets: Tensor | None) -> Tensor:
    assert targets is not None, "the training loop asks its own teacher where the data has no targets"
    return targets


def _check_fit(teacher: Teacher, context: Context) -> None:
    """Raise UsageError if the teacher takes or gives something else than the net."""
    ours, theirs = context.architecture.input, teacher.input
    for what, mine, other in (
        ("takes", (ours.kind, ours.channels), (theirs.kind, theirs.channels)),
        ("gives", _form(context.architecture.output), _form(teacher.output)),
    ):
        if mine != other:
            raise UsageError(
                f"distill: the teacher {what} {_shown(other)}, {context.architecture.id} {what} {_shown(mine)}.",
                hint="Choose a teacher for the same inputs and outputs.",
            )


def _form(output: OutputSpec) -> tuple[str, int, int]:
    return output.kind, output.channels, output.scale


def _shown(form: tuple[object, ...]) -> str:
    return " ".join(map(str, form))
