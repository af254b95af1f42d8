"""A plugin written for contract 1 works as it did, whatever has been renamed since."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
from torch import nn

from zoo.contracts import Context, InputSpec, LeftAlone, Phase, SkippedLayer, Technique
from zoo.errors import NoEffectError
from zoo.pipeline.stages import stages_of
from zoo.testing import attempt
from zoo.testing.workbench import Workbench


@dataclass(frozen=True)
class Config:
    pass


class Former(Technique):
    """As an author wrote it when contract 1 came out: LeakyReLU becomes ReLU."""

    contract = 1
    id = "former"
    summary = "for a test"
    phase = Phase.STRUCTURE
    Config = Config
    shrinks = False
    retrains = False

    def adapt(self, spec: InputSpec) -> InputSpec:
        return dataclasses.replace(super().adapt(spec), multiple_of=2 * spec.multiple_of)

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        from zoo.surgery.capture import evaluating, watch
        from zoo.surgery.walk import names_of, replace_module

        ran: list[nn.Module] = []
        names = names_of(model)
        with evaluating(model):
            watch(model, names, context.example_input, lambda module, given, output: ran.append(module))
        for module, all_names in names.items():
            if isinstance(module, nn.LeakyReLU) and module in ran:
                model = replace_module(model, module, nn.ReLU())
            elif isinstance(module, nn.Conv2d):
                context.leave(self.id, all_names[0], "a convolution")
        assert context.left_alone[-1] == LeftAlone(self.id, context.left_alone[-1].layer, "a convolution")
        return model


class Present(Technique):
    Config = Config
    must_shrink = False

    def adapt_input(self, spec: InputSpec) -> InputSpec:
        return dataclasses.replace(spec, multiple_of=3 * spec.multiple_of)


def test_it_runs_from_the_rewrite_to_the_exported_file() -> None:
    trial = attempt([Former()])
    assert not any(isinstance(module, nn.LeakyReLU) for module in trial.finished.modules())
    assert trial.architecture.input.multiple_of == 2 * Workbench().input.multiple_of
    assert {each.reason for each in trial.skipped_layers} == {"a convolution"}
    assert trial.left_alone == trial.skipped_layers
    assert LeftAlone is SkippedLayer


def test_a_stage_of_it_alone_is_not_trained() -> None:
    assert not Former.needs_training
    assert not any(stage.trains for stage in stages_of([Former()]))


def test_what_a_class_says_under_either_name_holds_under_both() -> None:
    spec = InputSpec("rgb", 3, multiple_of=4)
    assert (Former.must_shrink, Former.needs_training) == (False, False)
    assert (Present.shrinks, Present.retrains) == (False, True)
    assert Former().adapt_input(spec).multiple_of == 8
    assert Present().adapt(spec).multiple_of == 12


def test_the_nearest_class_decides_whichever_name_it_uses() -> None:
    class FormerAgain(Present):
        shrinks: ClassVar[bool] = True

        def adapt(self, spec: InputSpec) -> InputSpec:
            return super().adapt(spec)

    class Heir(FormerAgain):
        pass

    spec = InputSpec("rgb", 3, multiple_of=4)
    assert Heir.must_shrink
    assert Heir.shrinks
    assert Heir().adapt_input(spec).multiple_of == 12


def test_a_technique_that_must_shrink_is_refused_if_it_changes_nothing() -> None:
    class Idle(Former):
        def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
            return model

    with pytest.raises(NoEffectError, match="former"):
        attempt([Idle()])
