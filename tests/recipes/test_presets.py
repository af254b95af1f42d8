"""Presets: what `small`, `fast` and `best` stand for, and that the names stand for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fake_distributions import install_technique
from zoo import plugins
from zoo.contracts.task import PRESETS
from zoo.errors import UsageError
from zoo.pipeline.request import make_request
from zoo.plugins.discovery import discover
from zoo.recipes import canonical
from zoo.recipes.grammar import parse
from zoo.recipes.presets import expand_preset


@pytest.mark.parametrize("task", [each.id for each in discover() if each.kind == "tasks"])
def test_every_task_states_a_legal_recipe_for_each_preset(task: str) -> None:
    presets = plugins.task(task).presets
    assert presets.keys() == set(PRESETS)
    for recipe in presets.values():
        canonical.resolve(recipe)


def test_a_request_holds_the_recipe_that_a_preset_stands_for() -> None:
    request = make_request(parse("small"), "unet")
    assert str(request.recipe) == plugins.task("raw-to-rgb").presets["small"]
    assert (request.preset, request.out) == ("small", Path("out/unet-small"))
    plain = make_request(request.recipe, "unet")
    assert (plain.recipe, plain.preset) == (request.recipe, "")


@pytest.mark.parametrize("written", ["small(bits=4)", "small+ptq", "ptq+best"])
def test_a_preset_is_a_whole_recipe(written: str) -> None:
    with pytest.raises(UsageError, match="is a preset, which stands for a whole recipe"):
        expand_preset(parse(written), "unet")


def test_a_technique_that_is_called_like_a_preset_is_not_mistaken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_technique(tmp_path, "zoo-fast", "fast")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="'fast' is a preset, and a technique of zoo-fast") as refused:
        expand_preset(parse("fast"), "unet")
    assert "zoo-fast:fast" in str(refused.value.hint)
    written = parse("zoo-fast:fast")
    assert expand_preset(written, "unet") == written
