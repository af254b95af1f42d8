"""What one network learns from one teacher: which outputs and features are compared, and how."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.contracts import Context, LossTerm, OutputSpec, Teacher
from zoo.errors import UsageError
from zoo.modules.output_tree import split_outputs
from zoo.tasks.losses import absolute_difference, soft_targets
from zoo.training.inputs import denormalise, normalise
from zoo_techniques.distill.config import DistillConfig
from zoo_techniques.distill.features import Feature, FeatureRecorder, features_of, pair_features

Difference = Callable[[Tensor, Tensor], Tensor]


class Lesson:
    """What one net learns from one teacher."""

    def __init__(
        self,
        config: DistillConfig,
        teacher: Teacher,
        student: nn.Module,
        context: Context,
    ) -> None:
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
            same = set(context.architecture.feature_blocks()) & set(teacher.blocks)
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
        """Return the terms of the objective, without those whose weight is zero."""
        config = self._config
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
            terms.append(LossTerm("task", config.task - 1, _unused, scales_task=True))
        return terms

    def _attach(self, model: nn.Module) -> Callable[[], None]:
        """Watch the net that is trained now; after a rewrite of its arithmetic it is another one."""
        self._ours = FeatureRecorder(model, [ours for ours, _ in self.pairs])
        if self._ours.missing:
            layers = ", ".join(feature.layer for feature in self._ours.missing)
            self._context.report.note(f"distill: {layers} can no longer be compared; the others are")
        self._inputs = self._answer = None
        return self._detach

    def _detach(self) -> None:
        if self._ours is not None:
            self._ours.close()
        self._ours = self._inputs = self._answer = None

    def _ask(self, inputs: Tensor) -> Tensor:
        """The teacher's output for a batch; it is run once a batch for all terms."""
        if self._answer is None or inputs is not self._inputs:
            net = self._teacher.net.to(inputs.device)
            with torch.no_grad():
                answer, _ = split_outputs(net(self._for_teacher(inputs)), self._context.architecture)
                self._answer = answer.float()
            self._inputs = inputs
        return self._answer

    def _for_teacher(self, inputs: Tensor) -> Tensor:
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
    """Return the function that compares our outputs with the teacher's and returns a scalar.

    Raises:
        UsageError: Soft targets are asked for a network that makes images.
    """
    soft = soft_targets(output, config.temperature)
    kind = config.loss
    if kind == "auto":
        kind = "l1" if soft is None else "soft"
    if kind == "l1":
        return absolute_difference
    if kind == "l2":
        return functional.mse_loss
    if soft is None:
        raise UsageError(
            "distill: loss=soft is for logits, classes and masks; use l1 or l2 for other outputs."
        )
    return soft


def feature_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean absolute difference of features (N, C, H, W), ours scaled to the size of theirs."""
    ours, theirs = ours.float(), theirs.float()
    if ours.shape[-2:] != theirs.shape[-2:]:
        ours = functional.interpolate(ours, theirs.shape[-2:], mode="bilinear", align_corners=False)
    return functional.l1_loss(ours, theirs)


def _unused(inputs: Tensor, outputs: Tensor, targets: Tensor | None, model: nn.Module) -> Tensor:
    raise NotImplementedError  # the training loop computes the task's loss by itself


def _check_fit(teacher: Teacher, context: Context) -> None:
    """Raise UsageError if the teacher takes or gives something else than the net."""
    ours, theirs = context.architecture.input, teacher.input
    for what, mine, other in (
        ("input", (ours.kind, ours.channels), (theirs.kind, theirs.channels)),
        ("output", _form(context.architecture.output), _form(teacher.output)),
    ):
        if mine != other:
            raise UsageError(
                f"distill: the teacher's {what} is {_shown(other)}, {context.architecture.id}'s is {_shown(mine)}.",
                hint="Choose a teacher with the same inputs and outputs.",
            )


def _form(output: OutputSpec) -> tuple[str, int, int]:
    return output.kind, output.channels, output.scale


def _shown(form: tuple[object, ...]) -> str:
    return " ".join(map(str, form))
