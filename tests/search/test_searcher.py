"""A search: what it carries out, in what order, and that an interruption changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sqlite3
from pathlib import Path

import pytest

from support import small_net
from support.searching import Formula, FormulaCounts, front, request, run
from zoo.artifacts import open_artifact
from zoo.contracts import SilentReporter
from zoo.errors import InputError, OutputError, UsageError
from zoo.recipes.grammar import parse
from zoo.search.api import preview, search
from zoo.search.exact_counts import ExactCounts
from zoo.search.pick import pick
from zoo.search.search_request import SearchRequest
from zoo.search.search_result import read_front
from zoo.search.study_storage import while_reachable
from zoo.training.schedule import Budget

pytest.importorskip("optuna")
pytestmark = [pytest.mark.usefixtures("third_party"), pytest.mark.xdist_group("search")]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_search_that_is_interrupted_anywhere_ends_the_same_and_counts_nothing_twice(
    tmp_path: Path, sampler
) -> None:
    wanted = request(tmp_path / "whole", sampler=sampler)
    whole = Formula()
    result = run(wanted, whole)
    assert len(result.front) >= 3
    parts, again = [], request(tmp_path / "parts", sampler=sampler)
    while True:
        workers = Formula(most=5)
        try:
            end = run(again, workers)
            break
        except KeyboardInterrupt:
            parts += workers.runs
    parts += workers.runs
    assert parts == whole.runs
    assert len(set(parts)) == len(parts)
    assert front(end) == front(result)
    assert (end.trained, end.saved) == (result.trained, result.saved)


def test_halving_trains_few_and_reports_how_many_trainings_it_saved(tmp_path: Path) -> None:
    workers = Formula()
    result = run(request(tmp_path), workers)
    steps_of_plain = [steps for recipe, steps in workers.runs if recipe == "channel-prune(ratio=0.3)"]
    assert steps_of_plain == [0, 18], "what one would try by hand is trained in full at once"
    by_steps = {steps: sum(1 for _, each in workers.runs if each == steps) for steps in (0, 2, 6, 18)}
    assert by_steps[0] == 20 > 2 * by_steps[2] >= 2 * by_steps[6] >= 2 * (by_steps[18] - 1) > 0
    assert result.trained == by_steps[18]
    assert result.saved > 2 * result.trained


def test_a_candidate_that_fails_costs_only_itself(tmp_path: Path) -> None:
    result = run(request(tmp_path, space="qat(bits={4,8})", trials=5), Formula())
    assert [each.recipe for each in result.failed] == ["qat(bits=4)"]
    assert {recipe for recipe, _ in front(result)} == {"qat(bits=8)"}


def test_what_exceeds_a_budget_by_its_counts_is_never_trained(tmp_path: Path) -> None:
    workers = Formula()
    result = run(request(tmp_path, limits={"size": 300e3}, trials=34), workers)
    trained = [recipe for recipe, steps in workers.runs if steps]
    assert trained
    assert all("bits" in recipe for recipe in trained)
    assert result.beyond > 0
    assert all(point.values["size"] <= 300e3 for point in result.front)


def test_a_budget_that_nothing_can_keep_names_the_nearest_at_once(tmp_path: Path) -> None:
    workers = Formula()
    wanted = request(tmp_path, space="channel-prune(ratio=0.1..0.6)+{ptq,qat}(bits=8)", limits={"size": 50e3})
    with pytest.raises(
        UsageError, match=r"channel-prune\(ratio=0.6\)\+ptq\(bits=8\): size 100 kB \(budget 50 kB\)"
    ):
        run(wanted, workers)
    assert all(steps == 0 for _, steps in workers.runs)


def test_what_counts_alone_reject_is_never_run_and_may_be_once_the_budget_is_raised(tmp_path: Path) -> None:
    tight, workers = request(tmp_path, limits={"size": 240e3}, trials=34), Formula()
    result = run(tight, workers, counts=FormulaCounts())
    assert all("bits" in recipe for recipe, _ in workers.runs)
    assert result.never_run == 6
    assert len(workers.runs) > len(result.front) > 0
    assert not any(point.outcome.counted for point in result.points)
    before = set(workers.runs)
    raised = run(dataclasses.replace(tight, limits={"size": 1e9}), workers, counts=FormulaCounts())
    assert raised.never_run == 0
    assert len({recipe for recipe, _ in workers.runs}) == 34
    assert len(workers.runs) == len(set(workers.runs)) > len(before)


def test_counts_are_made_once_however_often_a_search_is_interrupted(tmp_path: Path) -> None:
    wanted, whole = request(tmp_path / "whole", limits={"size": 240e3}, trials=34), Formula()
    result = run(wanted, whole, counts=FormulaCounts())
    parts, again = [], dataclasses.replace(wanted, folder=tmp_path / "parts")
    while True:
        workers = Formula(most=9)
        try:
            end = run(again, workers, counts=FormulaCounts())
            break
        except KeyboardInterrupt:
            parts += workers.runs
    assert parts + workers.runs == whole.runs
    assert (front(end), end.never_run) == (front(result), result.never_run)


def test_a_budget_beyond_all_counts_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    workers = Formula()
    wanted = request(
        tmp_path, space="channel-prune(ratio=0.1..0.6)+{ptq,qat}(bits={8,4})", limits={"size": 40e3}
    )
    with pytest.raises(
        UsageError, match=r"channel-prune\(ratio=0.6\)\+ptq\(bits=4\): size at least 45 kB \(budget 40 kB\)"
    ):
        run(wanted, workers, counts=FormulaCounts())
    assert not workers.runs


def test_a_loss_limit_holds_for_the_front(tmp_path: Path) -> None:
    result = run(request(tmp_path, max_loss="0.4dB", trials=34), Formula())
    assert result.front
    assert all(point.outcome.lost <= 0.4 for point in result.front)


def test_a_storage_that_cannot_be_reached_is_refused_without_its_password(tmp_path: Path) -> None:
    wanted = request(tmp_path, storage="postgresql://me:secret@127.0.0.1:1/none")
    with pytest.raises(InputError) as refused:
        search(wanted, SilentReporter())
    assert "me@127.0.0.1:1/none cannot be reached" in refused.value.message
    assert "secret" not in str(refused.value)


def test_a_storage_that_is_lost_during_a_search_is_named(tmp_path: Path) -> None:
    class Losing(Formula):
        def carry_out(self, runs, done, stop) -> None:
            with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as database:
                database.execute("DROP TABLE trial_user_attributes")
            super().carry_out(runs, done, stop)

    with pytest.raises(InputError, match=r"study\.db cannot be reached: .*no such table"):
        run(request(tmp_path, trials=6), Losing())


@pytest.mark.parametrize("said", ["database or disk is full", "disk I/O error"])
def test_a_disk_that_fails_during_a_search_is_an_error_of_the_output(said: str) -> None:
    from optuna import exceptions

    class Kept:
        url = "sqlite:///out/study.db"

        @while_reachable
        def write(self) -> None:
            try:
                raise ValueError("wrapped") from sqlite3.OperationalError(said)
            except ValueError as error:
                raise exceptions.StorageInternalError("invalid data in the commit") from error

    with pytest.raises(OutputError, match=rf"study\.db: {said}"):
        Kept().write()


def test_a_preview_shows_the_size_and_recipes_of_the_space(tmp_path: Path) -> None:
    seen = preview(request(tmp_path / "none"))
    assert (seen.size, seen.structures) == (34, 5)
    assert not (tmp_path / "none").exists()
    workers = Formula()
    run(request(tmp_path / "searched"), workers)
    assert seen.first[:5] == ("ptq(bits=4)", "qat(bits=4)", "channel-prune(ratio=0.3)", *seen.first[3:5])
    assert seen.first == tuple(recipe for recipe, _ in workers.runs[: len(seen.first)])
    assert len(seen.first) == 7


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> SearchRequest:
    """A search that was really carried out: one training, one recipe without any."""
    folder = tmp_path_factory.mktemp("searched")
    wanted = request(folder, space="{depthwise,ptq}", steps=2, goals=("score", "size", "latency"))
    search(wanted, SilentReporter())
    return wanted


def test_every_point_of_a_front_is_an_artifact_that_its_command_makes_again(
    searched: SearchRequest, tmp_path: Path
) -> None:
    picked = pick(searched.folder, "smallest", tmp_path / "picked")
    artifact = open_artifact(picked.artifact)
    artifact.verify()
    steps = Budget(steps=int(picked.command.partition("--steps ")[2][0]))
    again = small_net.run(picked.recipe, tmp_path / "again", max_loss=None, budgets=(steps,))
    assert again.fingerprint == artifact.manifest.fingerprint
    assert picked.command.startswith(f"zoo apply {picked.recipe} small-unet --steps {steps.steps} --crop 32")


def test_counts_are_those_of_the_files_or_less(searched: SearchRequest) -> None:
    result = search(searched, SilentReporter())
    exact = ExactCounts(searched.base(parse("ptq")))
    for point in result.points:
        counts = exact.count(point.candidate.resolve())
        assert counts is not None
        assert counts.macs == point.outcome.macs
        assert point.outcome.size / 2 < counts.least_bytes < point.outcome.size


def test_the_same_search_again_carries_nothing_out(searched: SearchRequest) -> None:
    before = sorted(each.name for each in (searched.folder / "trials").iterdir())
    timed = (searched.folder / "front.json").read_text()
    result = search(searched, SilentReporter())
    assert sorted(each.name for each in (searched.folder / "trials").iterdir()) == before
    assert (searched.folder / "front.json").read_text() == timed
    assert {point.outcome.steps for point in result.points if point.outcome.trainings} == {0, 2}


def test_a_folder_of_another_search_is_refused(searched: SearchRequest) -> None:
    with pytest.raises(UsageError, match="holds a search with other settings"):
        search(dataclasses.replace(searched, space="ptq"), SilentReporter())
    with pytest.raises(InputError, match="does not hold a search"):
        SearchRequest.load(searched.folder / "trials")


def test_the_artifacts_of_a_front_are_timed_together(searched: SearchRequest) -> None:
    rows = read_front(searched.folder)
    assert len(rows) >= 1
    assert all(row["latency_together"] > 0 for row in rows)
    assert "measured together" in (searched.folder / "report.html").read_text()


def test_an_altered_artifact_is_not_picked(searched: SearchRequest, tmp_path: Path) -> None:
    copy = shutil.copytree(searched.folder, tmp_path / "copy")
    for model in (copy / "trials").glob("*/model.onnx"):
        model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match="sha256"):
        pick(copy, "smallest", tmp_path / "out")
