"""Searches against single techniques, random recipes and uniform widths; the cost of searching itself.

    python docs/benchmarks/search/run.py search --net resnet20 --data DIR [--seeds 0,1,2] [--trials 20] [--steps 150]
    python docs/benchmarks/search/run.py random --net resnet20 --data DIR    random recipes until they cost as much
    python docs/benchmarks/search/run.py mixed --net resnet20 --data DIR     average widths of weights from 2 to 8 bits
    python docs/benchmarks/search/run.py presets --net resnet20 --data DIR   what small, fast and best do
    python docs/benchmarks/search/run.py overhead                           200 trials that cost nothing
    python docs/benchmarks/search/run.py load                               a study of 10,000 past trials
    python docs/benchmarks/search/run.py report                             the tables of README.md

DIR holds `cifar10/{train,test}/CLASS` and `trained/resnet20-cifar10.th`. Results are lines of results.jsonl; what is
there is not done again, and a search continues in its folder of --out, so a run that was stopped goes on where it was.

All costs are seconds of processors, so that what else the machine has to do does not count.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from networks import Searched, searched

from zoo import plugins
from zoo.contracts import SilentReporter
from zoo.contracts.task import PRESETS
from zoo.errors import UsageError
from zoo.recipes.canonical import ResolvedRecipe, resolve
from zoo.recipes.grammar import parse
from zoo.recipes.presets import expand_preset
from zoo.search.api import open_space, search
from zoo.search.candidate_run import CandidateRun, candidate_run, carry_out_candidate
from zoo.search.outcome import Outcome
from zoo.search.search_request import SearchRequest
from zoo.search.searcher import Searcher
from zoo.search.study_log import StudyLog
from zoo.search.workers import Done, Stop

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.jsonl"
#: Goals that are exact, so that what dominates does not depend on what else the machine does.
GOALS = ("score", "size", "macs")
WIDTHS = ("2.5", "3", "3.5", "4", "5", "6")


class Results:
    """Lines of results.jsonl."""

    def __init__(self, path: Path = RESULTS) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def of(self, **wanted: Any) -> list[dict[str, Any]]:
        """The rows with these values."""
        return [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]

    def add(self, **row: Any) -> None:
        """Append a row."""
        self.rows.append(row)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


class Trial:
    """Carries single recipes out as a search does."""

    def __init__(self, net: Searched, results: Results, out: Path, steps: int, seed: int = 0) -> None:
        self._request = _request(net, out, seed, steps=steps)
        self._results, self._out, self._steps = results, out, steps

    def __call__(self, recipe: ResolvedRecipe, **described: Any) -> None:
        """Carry a recipe out in full, and keep what came of it."""
        run = candidate_run(
            self._request.base(recipe.written),
            recipe,
            self._steps,
            self._out / "artifact",
            self._out / "stages",
        )
        run = dataclasses.replace(run, request=dataclasses.replace(run.request, keep_stages=None))
        print(described, recipe.written, flush=True)
        self._results.add(**described, **_row(carry_out_candidate(run)))


def _row(outcome: Outcome) -> dict[str, Any]:
    names = ("recipe", "steps", "error", "lost", "unit", "score", "before", "size", "size_before", "macs")
    row = {name: getattr(outcome, name) for name in (*names, "macs_before", "parameters")}
    return {**row, "lost": round(outcome.lost, 4), "cpu_s": round(outcome.processor_seconds, 1)}


# ----------------------------------------------------------------------------------- searches and what they are against


def run_search(name: str, net: Searched, given: argparse.Namespace, results: Results) -> None:
    """Every single technique, then a search for each seed."""
    single = Trial(net, results, given.out / f"{name}-singles", given.steps)
    for plugin in plugins.find_plugins("techniques"):
        if plugin.builtin and not results.of(net=name, arm="single", technique=plugin.id):
            try:
                recipe = resolve(plugin.id)
            except UsageError:
                continue  # it needs an option
            single(recipe, net=name, arm="single", technique=plugin.id)
    for seed in given.seeds:
        if not results.of(net=name, arm="search", seed=seed, last=True):
            _searched(name, net, given, results, seed)


def run_random(name: str, net: Searched, given: argparse.Namespace, results: Results) -> None:
    """For each seed whose search is done, random recipes of the same cost."""
    for seed in given.seeds:
        if results.of(net=name, arm="search", seed=seed, last=True):
            _random(name, net, given, results, seed)


def _searched(name: str, net: Searched, given: argparse.Namespace, results: Results, seed: int) -> None:
    request = _request(
        net,
        given.out / f"{name}-{seed}",
        seed,
        goals=GOALS,
        trials=given.trials,
        minutes=1e6,
        steps=given.steps,
    )
    begun = time.process_time()
    found = search(request, SilentReporter())
    spent = time.process_time() - begun
    outcomes = [each for candidate in _candidates(request) for each in candidate.outcomes.values()]
    for point in found.front:
        results.add(net=name, arm="search", seed=seed, **_row(point.outcome))
    results.add(
        net=name, arm="search", seed=seed, last=True, candidates=len({p.candidate.number for p in found.points}),
        trained=found.trained, saved=found.saved, failed=len(found.failed), all_cpu_s=round(spent, 1),
        total_cpu_s=round(sum(each.processor_seconds for each in outcomes), 1), steps=given.steps,
    )  # fmt: skip


def _request(net: Searched, folder: Path, seed: int, **more: Any) -> SearchRequest:
    return SearchRequest(
        net.architecture, net.space, folder, {**net.options, "seed": seed}, seed=seed, **more
    )


def _candidates(request: SearchRequest) -> Sequence[Any]:
    return StudyLog(request.url, "zoo-search", len(request.goals), request.sampler, request.seed).candidates


def _random(name: str, net: Searched, given: argparse.Namespace, results: Results, seed: int) -> None:
    """Random recipes, each trained in full, until they have cost what the search did."""
    (last,) = results.of(net=name, arm="search", seed=seed, last=True)
    space = open_space(SearchRequest(net.architecture, net.space, given.out))
    trial = Trial(net, results, given.out / f"{name}-random", given.steps, seed)
    for number in range(10_000):
        rows = results.of(net=name, arm="random", seed=seed)
        if sum(row["cpu_s"] for row in rows) >= last["total_cpu_s"]:
            return
        try:
            recipe = space.draw_at_random(seed * 1_000_003 + number)
        except UsageError:
            continue
        if not any(row["recipe"] == str(recipe.written) for row in rows):
            trial(recipe, net=name, arm="random", seed=seed)


def run_mixed(name: str, net: Searched, given: argparse.Namespace, results: Results) -> None:
    """Uniform widths, and average ones that each layer gets its share of."""
    for seed in given.seeds:
        trial = Trial(net, results, given.out / f"{name}-mixed", given.steps, seed)
        for width in ("8", *WIDTHS):
            if not results.of(net=name, arm="mixed", width=width, seed=seed):
                described = {"net": name, "arm": "mixed", "width": width, "seed": seed}
                alone = results.of(net=name, arm="single", recipe=net.uniform, steps=given.steps)
                if width == "8" and alone and seed == 0:
                    results.add(**{**alone[0], **described})  # the same run
                    continue
                trial(resolve(net.uniform if width == "8" else net.mixed.format(width)), **described)


def run_presets(name: str, net: Searched, given: argparse.Namespace, results: Results) -> None:
    """The recipes that the task of a network states for the presets."""
    trial = Trial(net, results, given.out / f"{name}-presets", given.steps)
    base = SearchRequest(net.architecture, net.space, given.out, net.options).base(resolve("ptq").written)
    for preset in PRESETS:
        recipe = resolve(expand_preset(parse(preset), base.architecture))
        if not results.of(net=name, arm="preset", preset=preset, recipe=str(recipe.written)):
            trial(recipe, net=name, arm="preset", preset=preset)


# ----------------------------------------------------------------------------------- the cost of searching


class Instant:
    """Workers that compute something instead of carrying out."""

    count = 1

    def carry_out(self, runs: Sequence[CandidateRun], done: Done, stop: Stop) -> None:
        """Give each recipe a score and a size that depend on its text alone."""
        for place, run in enumerate(runs):
            recipe = str(run.request.recipe)
            hashed = sum(ord(letter) * (position + 7) for position, letter in enumerate(recipe)) % 997
            outcome = Outcome(
                recipe, run.steps, run.trainings, measure="top-1", unit="pt", lost=hashed / 100 / (1 + run.steps),
                size=10_000 + 1000 * hashed, macs=10**6 * (1 + hashed % 89), latency=1.0, latency_before=2.0,
            )  # fmt: skip
            done(place, outcome)


def run_overhead(results: Results, given: argparse.Namespace) -> None:
    """Search 200 recipes that cost nothing: what is left is the search itself."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = SearchRequest(
            "lighter-unet", "low-rank(ratio=0.1..0.9)?+channel-prune(ratio=0.1..0.6)?+{ptq,qat}(bits=4..8)?",
            Path(folder), {}, GOALS, trials=given.trials, steps=18,
        )  # fmt: skip
        begun = time.process_time()
        log = StudyLog(wanted.url, "overhead", len(GOALS), wanted.sampler, wanted.seed)
        found = Searcher(wanted, open_space(wanted), log, Instant(), SilentReporter()).run()
        spent = time.process_time() - begun
    trials = len({point.candidate.number for point in found.points})
    results.add(arm="overhead", trials=trials, cpu_s=round(spent, 2), sampler=wanted.sampler)


def run_load(results: Results, given: argparse.Namespace) -> None:
    """Open a study of 10,000 past trials; making it takes minutes, so it is kept."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    given.out.mkdir(parents=True, exist_ok=True)
    path = (given.out / f"past-{given.past}.db").absolute()
    if not path.exists():
        making = path.with_suffix(".making")
        making.unlink(missing_ok=True)
        study = optuna.create_study(
            storage=f"sqlite:///{making}", study_name="load", directions=["minimize"] * len(GOALS)
        )
        study.add_trials(list(_past(given.past)))
        making.rename(path)
    begun = time.process_time()
    log = StudyLog(f"sqlite:///{path}", "load", len(GOALS), "tpe", 0)
    spent = time.process_time() - begun
    assert len(log.candidates) == given.past
    results.add(arm="load", trials=given.past, cpu_s=round(spent, 2))


def _past(count: int) -> Iterator[Any]:
    from optuna.distributions import FloatDistribution
    from optuna.trial import create_trial

    across = FloatDistribution(0, 1)
    for number in range(count):
        recipe = f"channel-prune(ratio={number / count})"
        outcome = Outcome(recipe, 0, measure="top-1", unit="pt", size=number, macs=number, latency=1.0)
        yield create_trial(
            params={"ratio": number / count}, distributions={"ratio": across}, values=[1.0, number, number],
            user_attrs={"candidate": [recipe, recipe], "outcome:0": outcome.to_json()},
        )  # fmt: skip


def main() -> None:
    """Do one part of the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", choices=["search", "random", "mixed", "presets", "overhead", "load", "report"]
    )
    parser.add_argument("--net", default="lighter-unet")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/search"))
    parser.add_argument(
        "--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--trials", type=int)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--past", type=int, default=10_000)
    given = parser.parse_args()
    results = Results()
    if given.part == "report":
        from report import report

        report(results)
    elif given.part in ("overhead", "load"):
        given.trials = given.trials or 200
        (run_overhead if given.part == "overhead" else run_load)(results, given)
    else:
        given.trials = given.trials or 20
        known = searched(given.data and given.data.resolve())
        if given.net not in known:
            parser.error(f"--net is one of {', '.join(known)}; those that need data need --data")
        do = {"search": run_search, "random": run_random, "mixed": run_mixed, "presets": run_presets}[
            given.part
        ]
        do(given.net, known[given.net], given, results)


if __name__ == "__main__":
    main()
