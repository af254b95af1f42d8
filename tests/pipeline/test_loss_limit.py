"""What may be lost: units, directions, the task's own limit, and what chance explains."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from zoo import plugins
from zoo.contracts import Metric, SilentReporter
from zoo.errors import NoEffectError, UsageError
from zoo.evaluation.quality import Quality, Score
from zoo.export.file_agreement import FileAgreement
from zoo.pipeline.effect import check_quality, slower_remark
from zoo.pipeline.loss_limit import LossLimit, check_unit, loss_and_least, parse_limit
from zoo.pipeline.measure import Measured
from zoo.pipeline.stages import stages_of
from zoo.runner.timing import Latency
from zoo.tasks.built_in_metrics import DICE, PSNR, TOP1, TOP1_AGREEMENT
from zoo.training.weights import StartWeights
from zoo_techniques.ptq import Ptq


def timed(milliseconds: float, spread: float) -> Measured:
    times = tuple(milliseconds * (1 + spread * step) for step in (-1, -0.5, 0, 0.5, 1))
    latency = Latency(milliseconds, times[1], times[3], times)
    return Measured(
        "", 1, 1, 1, Quality("data", "test", 0, labelled=True), FileAgreement(99, 99, 50), latency
    )


def test_a_file_that_is_slower_than_the_original_is_called_so() -> None:
    original = timed(10, 0.01)
    assert "1.50 times as long" in slower_remark(original, timed(15, 0.02))
    assert slower_remark(original, timed(10.5, 0.01)) == slower_remark(original, timed(7, 0.01)) == ""
    assert slower_remark(original, original) == ""
    assert slower_remark(original, dataclasses.replace(original, latency=None)) == ""


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1pt", LossLimit(1.0, "pt")),
        ("0.3dB", LossLimit(0.3, "dB")),
        (" .5 DB ", LossLimit(0.5, "dB")),
        ("2 %", LossLimit(2.0, "pt")),
        ("3", LossLimit(3.0)),
        (3, LossLimit(3.0)),
        ("-1e3", LossLimit(-1000.0)),
        ("auto", LossLimit(math.inf, stated=False)),
        ("none", None),
        (None, None),
    ],
)
def test_a_limit_is_read_with_its_unit(text: Any, limit: LossLimit | None) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize("text", ["", "pt", "1 point", "1dB2", "1..2pt", "inf", "nan"])
def test_a_malformed_limit_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="not a loss") as caught:
        parse_limit(text)
    assert "--max-loss 1pt" in (caught.value.hint or "")


def test_a_unit_that_the_task_does_not_count_in_is_refused() -> None:
    raw, classes, unlabelled = (plugins.task(name) for name in ("raw-to-rgb", "classification", "any"))
    check_unit(parse_limit("1pt"), (classes, unlabelled))
    check_unit(parse_limit("1dB"), (raw,))
    with pytest.raises(UsageError, match="raw-to-rgb counts losses in dB of PSNR, not in pt"):
        check_unit(parse_limit("1pt"), (raw,))
    check_unit(parse_limit("1dB"), (classes, unlabelled), lambda: False)
    with pytest.raises(UsageError, match="classification counts losses in points of top-1, not in dB"):
        check_unit(parse_limit("1dB"), (classes, unlabelled), lambda: True)


def test_losses_follow_the_direction_and_the_unit_of_the_measure() -> None:
    assert TOP1.lost(0.81, 0.80) == pytest.approx(1.0)
    assert PSNR.lost(30, 28) == 2.0
    assert Metric("rmse", "RMSE", higher_is_better=False).lost(1.0, 1.5) == 0.5


def scored(metric: Metric, values: list[float], *, labelled: bool = True) -> Quality:
    scores = [Score(str(number), "", {metric.key: value}) for number, value in enumerate(values)]
    found = {metric.key: float(np.mean(values))}
    return Quality("data", "test", 0, labelled, (metric,), scores, found)


def checked(before: Quality, after: Quality, limit: str, notes: list[str] | None = None) -> None:
    class Noting(SilentReporter):
        def note(self, text: str) -> None:
            (notes if notes is not None else []).append(text)

    def measured(quality: Quality) -> Measured:
        return Measured("", 0, 0, 0, quality, None)  # type: ignore[arg-type]

    (stage,) = stages_of([Ptq(Ptq.Config())])
    start = StartWeights("weights", "0", True)
    check_quality(stage, measured(before), measured(after), start, parse_limit(limit), Noting())


def test_a_network_that_lost_its_function_fails_without_an_option() -> None:
    before = scored(TOP1, [1.0] * 162 + [0.0] * 38)
    with pytest.raises(NoEffectError, match=r"lost 59.00 points of top-1 \(81.00 % to 22.00 %\)") as caught:
        checked(before, scored(TOP1, [1.0] * 44 + [0.0] * 156), "auto")
    assert "--max-loss 59pt" in (caught.value.hint or "")
    assert "Train longer" not in (caught.value.hint or ""), "ptq trains nothing"
    agreeing = scored(TOP1_AGREEMENT, [1.0] * 24, labelled=False)
    with pytest.raises(NoEffectError, match="same top-1 class with the original network"):
        checked(agreeing, scored(TOP1_AGREEMENT, [1.0] * 3 + [0.0] * 21, labelled=False), "auto")


def test_a_loss_that_chance_may_explain_is_a_warning_of_the_task_and_an_error_of_the_user() -> None:
    before, after = scored(TOP1, [1.0] * 20), scored(TOP1, [1.0] * 17 + [0.0] * 3)
    notes: list[str] = []
    checked(before, after, "auto", notes)
    assert "chance may explain" in notes[0]
    assert "20 images" in notes[0]
    with pytest.raises(NoEffectError, match="the budget is 1"):
        checked(before, after, "1pt")


def test_a_loss_of_points_that_is_no_chance_is_reported_within_the_limit_of_the_task() -> None:
    before, after = scored(TOP1, [1.0] * 158 + [0.0] * 42), scored(TOP1, [1.0] * 145 + [0.0] * 55)
    notes: list[str] = []
    checked(before, after, "auto", notes)
    assert "lost 6.50 points of top-1 (79.00 % to 72.50 %). The task allows a loss of 10" in notes[0]
    checked(before, after, "8pt", silent := [])
    assert silent == []


def test_a_small_loss_within_the_limit_passes_in_silence() -> None:
    notes: list[str] = []
    checked(scored(DICE, [0.9, 0.8]), scored(DICE, [0.895, 0.794]), "auto", notes)
    checked(scored(DICE, [0.9, 0.8]), scored(DICE, [0.895, 0.795]), "1pt", notes)
    assert notes == []


@pytest.mark.parametrize("limit", ["none", "80pt"])
def test_a_loss_that_the_user_allows_and_the_task_would_not_is_reported(limit: str) -> None:
    notes: list[str] = []
    checked(scored(DICE, [0.9, 0.8]), scored(DICE, [0.1, 0.1]), limit, notes)
    assert "lost 75.00 points of Dice" in notes[0]
    assert notes[0].endswith("The task allows a loss of 3; --max-loss allows it.")


def test_the_least_loss_is_that_of_pairs_of_images() -> None:
    """Images differ more than what each of them loses."""
    values = np.linspace(20, 40, 50)
    lost, least = loss_and_least(PSNR, scored(PSNR, list(values)), scored(PSNR, list(values - 1)))
    assert (lost, least) == (pytest.approx(1.0), pytest.approx(1.0))
