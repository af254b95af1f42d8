"""A search: what it carries out, in what order, and that an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from support import small_net
from support.searching import Formula, front, request, run
from zoo.artifacts import open_artifact
from zoo.contracts import SilentReporter
from zoo.errors import InputError, UsageError
from zoo.search.api import preview, search
from zoo.search.pick import pick
from zoo.search.search_request import SearchRequest
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
    by_steps = {steps: sum(1 for _, each in workers.runs if each == steps) for steps in (0, 2, 6, 18)}
    assert by_steps[0] == 20 > 2 * by_steps[2] >= 2 * by_steps[6] >= 2 * by_steps[18] > 0
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


def test_a_preview_shows_the_size_and_recipes_of_the_space(tmp_path: Path) -> None:
    seen = preview(request(tmp_path / "none"))
    assert (seen.size, seen.structures) == (34, 5)
    assert len(seen.first) == 8
    assert not (tmp_path / "none").exists()


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


def test_the_same_search_again_carries_nothing_out(searched: SearchRequest) -> None:
    before = sorted(each.name for each in (searched.folder / "trials").iterdir())
    result = search(searched, SilentReporter())
    assert sorted(each.name for each in (searched.folder / "trials").iterdir()) == before
    assert {point.outcome.steps for point in result.points if point.outcome.trainings} == {0, 2}


def test_a_folder_of_another_search_is_refused(searched: SearchRequest) -> None:
    with pytest.raises(UsageError, match="holds a search with other settings"):
        search(dataclasses.replace(searched, space="ptq"), SilentReporter())
    with pytest.raises(InputError, match="does not hold a search"):
        SearchRequest.load(searched.folder / "trials")


def test_an_altered_artifact_is_not_picked(searched: SearchRequest, tmp_path: Path) -> None:
    copy = shutil.copytree(searched.folder, tmp_path / "copy")
    for model in (copy / "trials").glob("*/model.onnx"):
        model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match="sha256"):
        pick(copy, "smallest", tmp_path / "out")
