"""Stages that are kept only if they win something."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn

from support.quantized import SmallUNet, context, pictures
from zoo.contracts import Context, SilentReporter
from zoo.quantization import judged_stages
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.judged_stages import JudgedStages
from zoo.quantization.prepare import QuantizationConfig, calibrate, prepare
from zoo.quantization.quantized_layers import QuantConv2d
from zoo_techniques.ptq import Ptq, PtqConfig
from zoo_techniques.ptq.ptq_stages import PtqStages


def prepared() -> tuple[fx.GraphModule, Context, SilentReporter]:
    where, report = context(SmallUNet(), pictures(2)), SilentReporter()
    where.report = report
    module = prepare(
        SmallUNet().build(), where, QuantizationConfig(observer="auto", weight_observer="minmax")
    )
    calibrate(module, [pictures(2)])
    return module.eval(), where, report


def test_what_makes_it_worse_is_undone_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    module, where, report = prepared()
    stages = JudgedStages(module, [pictures(2)], where, "ptq")

    def spoil(module: fx.GraphModule, *_: object, **__: object) -> int:
        for layer in module.modules():
            if isinstance(layer, QuantConv2d):
                with torch.no_grad():
                    layer.weight.mul_(0.5)
                    layer.bias = nn.Parameter(torch.ones(layer.out_channels))
            if isinstance(layer, FakeQuantize):
                layer.set_range(torch.tensor([0.1]))
                layer.candidates = {}
        return 1

    before = copy.deepcopy(module.state_dict())
    candidates = [dict(each.candidates) for each in module.modules() if isinstance(each, FakeQuantize)]
    monkeypatch.setattr(judged_stages, "correct_biases", spoil)
    assert not stages.correct_biases(deviations=False)
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert candidates == [each.candidates for each in module.modules() if isinstance(each, FakeQuantize)]
    assert report.notes == ["ptq: correcting biases wins nothing, and is left out"]


def test_every_stage_says_what_it_won_and_the_error_never_grows() -> None:
    module, where, report = prepared()
    stages = PtqStages(module, [pictures(2)], where, "ptq")
    errors = [stages.output.measure()]
    for stage in (
        stages.equalize,
        stages.round_adaptively,
        lambda: stages.correct_biases(deviations=False),
        lambda: stages.correct_biases(deviations=True),
    ):
        kept = stage()
        errors.append(stages.output.measure())
        assert errors[-1] < errors[-2] if kept else "wins nothing" in report.notes[-1]
    assert len(report.notes) == 4


def test_stages_can_be_switched_off() -> None:
    where, report = context(SmallUNet(), pictures(2)), SilentReporter()
    where.report = report
    Ptq(PtqConfig(equalize=False, bias_correction=False, reestimate=False)).rewrite(
        SmallUNet().build(), where
    )
    assert [note for note in report.notes if "wins" in note] == []


def test_a_bar_shows_how_many_images_ranges_were_tried_on() -> None:
    module, where, _ = prepared()
    shown: list[tuple[str, float]] = []

    class Recording(SilentReporter):
        def start(self, task: str, total: float | None, unit: str = "steps") -> None:
            shown.append((f"{task}, {unit}", total or 0))

        def advance(self, amount: float = 1, **figures: float | str) -> None:
            shown.append(("", amount))

        def finish(self) -> None:
            shown.append(("finished", 0))

    where.report = Recording()
    stages = JudgedStages(module, [pictures(3)], where, "ptq")
    stages.choose_ranges(weights=True)
    assert shown[0] == ("ptq: try ranges, images", 3)
    assert sum(amount for name, amount in shown if not name) == 3
    assert shown[-1] == ("finished", 0)
