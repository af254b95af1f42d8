"""Searches whose candidates are computed by a formula, in place of an hour of training."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zoo.contracts import SilentReporter
from zoo.recipes.canonical import ResolvedRecipe
from zoo.search.api import open_space
from zoo.search.candidate_run import CandidateRun
from zoo.search.exact_counts import Counts
from zoo.search.outcome import Outcome
from zoo.search.search_request import SearchRequest
from zoo.search.search_result import SearchResult
from zoo.search.searcher import Searcher
from zoo.search.study_log import StudyLog
from zoo.search.workers import Done, Stop, Workers

SPACE = "channel-prune(ratio=0.1..0.6:0.1)?+{ptq,qat}(bits={4,8})?"
QUICK = {"crop": 32, "batch": 2, "images": 1, "precision": "float32"}


def small_formula() -> Callable[[CandidateRun], Outcome]:
    """What comes of a recipe of SPACE, in a function that can be sent to other machines."""
    from zoo.search.outcome import Outcome

    def compute(run: Any) -> Outcome:
        recipe = str(run.request.recipe)
        if "qat(bits=4)" in recipe:
            return Outcome(recipe, run.steps, run.trainings, error="it always fails")
        ratio = float(recipe.partition("ratio=")[2][:3] or 0)
        bits = 32 if "bits" not in recipe else int(recipe.partition("bits=")[2][0])
        lost = 3 * ratio**2 + (0.5 if bits == 4 else 0.1 if bits == 8 else 0) * (2 if "ptq" in recipe else 1)
        return Outcome(
            recipe, run.steps, run.trainings, measure="PSNR", unit="dB", score="30 dB", lost=lost + 1 / (1 + run.steps),
            size=round(1e6 * (1 - ratio) * bits / 32), latency=1.0, latency_before=2.0, seconds=0.01,
        )  # fmt: skip

    return compute


def dies_of_ptq(run: CandidateRun) -> Outcome:
    """The formula, in a process that is killed by one recipe."""
    if str(run.request.recipe) == "ptq(bits=4)":
        os.kill(os.getpid(), signal.SIGKILL)
    return small_formula()(run)


class Formula:
    """Workers that compute by the formula; they stop the search after `most` runs."""

    count = 1

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.runs: list[tuple[str, int]] = []
        self._compute = small_formula()

    def carry_out(self, runs: Sequence[CandidateRun], done: Done, stop: Stop) -> None:
        for place, run in enumerate(runs):
            if self.most is not None and len(self.runs) == self.most:
                raise KeyboardInterrupt
            self.runs.append((str(run.request.recipe), run.steps))
            done(place, self._compute(run))


class FormulaCounts:
    """Counts of the formula: files are at least nine tenths of what they will be."""

    def __init__(self) -> None:
        self.counted: list[str] = []

    def count(self, recipe: ResolvedRecipe) -> Counts:
        written = str(recipe.written)
        self.counted.append(written)
        size = small_formula()(
            SimpleNamespace(request=SimpleNamespace(recipe=written), steps=0, trainings=0)
        ).size
        return Counts(10**6, round(0.9 * (size or 125e3)))


def request(folder: Path, **changes) -> SearchRequest:
    """A search of the small net."""
    plain = SearchRequest("small-unet", SPACE, folder, QUICK, ("score", "size"), trials=20, steps=18)
    return dataclasses.replace(plain, **changes)


def run(
    wanted: SearchRequest, workers: Workers | None = None, name: str = "test", counts: Any = None
) -> SearchResult:
    """Carry a search out in its folder."""
    wanted.folder.mkdir(exist_ok=True)
    log = StudyLog(wanted.url, name, len(wanted.goals), wanted.sampler, wanted.seed)
    return Searcher(wanted, open_space(wanted), log, workers or Formula(), SilentReporter(), counts).run()


def front(result: SearchResult) -> list[tuple[str, int]]:
    """What nothing beats: recipes and steps."""
    return [(point.outcome.recipe, point.outcome.steps) for point in result.front]
