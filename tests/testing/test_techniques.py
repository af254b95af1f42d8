"""What the conformance kit of techniques catches."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from zoo.contracts import Context, Phase, Technique
from zoo.options import option
from zoo.testing import technique_checks


@dataclass(frozen=True)
class Config:
    """No options."""


class Halves(Technique):
    """Halves the head's weights when it finishes, and does so however often it is called."""

    contract = 1
    id = "halves"
    summary = "for a test"
    phase = Phase.NUMERICS
    needs_training = False
    Config = Config

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        with torch.no_grad():
            model.head.weight.mul_(0.5)
        return model

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        with torch.no_grad():
            model.head.weight.mul_(2.0)
        return model


class Counts(Halves):
    """Does something else each time: it remembers how often it was called."""

    calls = 0

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        self.calls += 1
        with torch.no_grad():
            model.head.weight.div_(self.calls)
        return model


class Grows(Halves):
    """Adds a layer the second time."""

    finished = False

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        if self.finished:
            model.shuffle = nn.Sequential(nn.ReLU(), model.shuffle)
        self.finished = True
        return model


class Reports(Halves):
    """Reports a layer each time that it finishes."""

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        context.skip_layer(self.id, "head", "it is the last")
        return model


@dataclass(frozen=True)
class _EnergyConfig:
    energy: float = option(0.9, help="share of the energy to keep")
    layers: tuple[str, ...] = option((), help="layers to leave out")
    exact: bool = option(False, help="whether to solve exactly")


class Keeps(Halves):
    """Has options of several types."""

    Config = _EnergyConfig


def test_options_are_given_as_values_or_as_text() -> None:
    values = technique_checks(Keeps, options={"energy": 0.5, "layers": ("a", "b"), "exact": True})
    text = technique_checks(Keeps, options={"energy": "0.5", "layers": ("a", "b"), "exact": "true"})
    assert values.made().config == text.made().config == _EnergyConfig(0.5, ("a", "b"), True)
    values().test_options_come_back_from_their_text()
    values().test_an_unknown_option_is_refused_by_name()


def test_a_pure_finish_passes() -> None:
    technique_checks(Halves)().test_finishing_is_pure()


@pytest.mark.parametrize(
    ("technique", "complaint"),
    [(Counts, "other numbers"), (Grows, "another network"), (Reports, r"report layers in rewrite\(\)")],
)
def test_an_impure_finish_is_caught(technique: type[Technique], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        technique_checks(technique)().test_finishing_is_pure()
