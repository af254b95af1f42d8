"""Counts made before anything is carried out; tests of searches hold them against files."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.searching import request
from zoo.contracts import SilentReporter
from zoo.errors import UsageError
from zoo.recipes.canonical import resolve
from zoo.search.api import search
from zoo.search.exact_counts import ExactCounts

pytestmark = [pytest.mark.usefixtures("third_party"), pytest.mark.xdist_group("search")]


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> ExactCounts:
    wanted = request(tmp_path_factory.mktemp("counts"))
    return ExactCounts(wanted.base(resolve("ptq").written))


def test_a_width_halves_what_a_file_holds_at_least(counts: ExactCounts) -> None:
    eight, four, plain, mixed = (
        counts.count(resolve(recipe))
        for recipe in ("ptq", "depthwise+ptq(weight_bits=4)", "depthwise", "depthwise+qat(mixed=3.5)")
    )
    assert eight is not None
    assert four is not None
    assert plain is not None
    assert mixed is not None
    assert plain.macs == four.macs == mixed.macs < eight.macs
    assert plain.least_bytes == 8 * four.least_bytes == 16 * mixed.least_bytes


def test_what_cannot_be_counted_is_left_to_be_carried_out(counts: ExactCounts) -> None:
    assert counts.count(resolve("stage-prune(stage=nowhere)")) is None


def test_a_budget_that_no_recipe_keeps_is_refused_without_a_trial(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(
        UsageError, match=r"The nearest is channel-prune\(ratio=0.6\)\+ptq: macs .* \(budget 1 k"
    ):
        search(
            request(tmp_path, space="channel-prune(ratio=0.1..0.6)+ptq", limits={"macs": 1e3}),
            SilentReporter(),
        )
    assert not (tmp_path / "trials").exists()
