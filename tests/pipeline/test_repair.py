"""Layers that go back to float when rounding them loses more than the limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.artifacts.artifact import open_artifact
from zoo.errors import NoEffectError
from zoo.pipeline.repair import fewest
from zoo.recipes import recipe_toml
from zoo.recipes.grammar import parse


class Net(nn.Module):
    """Whether the upper or the lower half of a picture is brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, padding=1, stride=2)
        self.third = nn.Conv2d(16, 16, 1)
        self.last = nn.Linear(16 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu()
        return self.last(self.third(x).relu().flatten(1))


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0, :4].sum((1, 2)) > x[:, 0, 4:].sum((1, 2))).long()


def spoiled(*layers: str) -> Net:
    """A trained network in which each of these layers has weights that 8 bits destroy.

    One weight of each output channel is a thousand times as large as the others, and meets a channel that is 0.
    """
    torch.manual_seed(0)
    net, (x, y) = Net(), images(512, 0)
    inputs = {"second": net.first, "third": net.second}
    with torch.no_grad():
        for name in layers:
            inputs[name].weight[0] = 0
            inputs[name].bias[0] = 0
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        for name in layers:
            inputs[name].weight[0] = 0
            inputs[name].bias[0] = 0
            net.get_submodule(name).weight[:, 0, 0, 0] = 1000  # type: ignore[index]
    return net.eval()


def applied(
    net: nn.Module, out: Path, max_loss: str = "1pt", recipe: str | Path = "ptq", **more: object
) -> zoo.Result:
    return zoo.apply(
        net, recipe, data=images(64, 1), test=images(200, 2), max_loss=max_loss, out=out, batch=16, **more
    )  # type: ignore[arg-type,return-value]


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> zoo.Result:
    return applied(spoiled("second"), tmp_path_factory.mktemp("repair") / "out")


def test_only_the_layer_that_rounding_destroys_goes_back(repaired: zoo.Result) -> None:
    repair = repaired.repair
    assert repair is not None
    assert repair.layers == ("second",)
    assert set(repair.rounded) == {"first", "third", "last"}
    top1 = [file.quality.values["top1"] for file in (repaired.files[0], repaired.files[-1], repair.before)]
    assert top1[1] >= top1[0] - 0.01 > top1[2]
    assert repair.lost == pytest.approx(100 * (top1[0] - top1[1]))
    assert repaired.files[-1] is repair.after


def test_what_it_costs_is_that_of_the_two_files(repaired: zoo.Result) -> None:
    repair = repaired.repair
    assert repair is not None
    assert repair.more_bytes == repair.after.file_bytes - repair.before.file_bytes > 0
    assert repair.more_milliseconds is not None, "the file that was not kept is timed as well"
    assert len(repaired.files) == 2, "it is not among the stages"


def test_every_report_names_the_layers(repaired: zoo.Result) -> None:
    metrics = json.loads((repaired.artifact / "metrics.json").read_text())
    assert metrics["repair"] == repaired.to_json()["repair"]
    assert metrics["repair"]["float_layers"] == ["second"]
    sentence = str(repaired.repair)
    assert "ptq lost" in sentence
    assert "Back in float: second; 3 layers stay rounded." in sentence
    assert sentence in metrics["notes"]
    assert sentence in (repaired.artifact / "README.md").read_text()
    row = next(row for row in repaired.table_cells()[1] if row[0] == "layers back in float")
    assert row == ["layers back in float", "", "1 of 4"]
    left = [each["layer"] for each in repaired.left_alone]
    assert left.count("second") == 1, "the layers left alone are those of the file that was kept"


def test_the_recipe_that_is_written_makes_the_same_file_without_a_search(
    repaired: zoo.Result, tmp_path: Path
) -> None:
    recipe = recipe_toml.loads((repaired.artifact / "recipe.toml").read_text()).recipe
    assert parse("ptq(mixed=[second])").stages[0].option_map["mixed"] == recipe.stages[0].option_map["mixed"]
    again = applied(spoiled("second"), tmp_path / "out", recipe=repaired.artifact / "recipe.toml")
    assert again.repair is None
    assert again.fingerprint == repaired.fingerprint
    assert open_artifact(again.artifact).manifest.recipe == open_artifact(repaired.artifact).manifest.recipe
    models = [(each.artifact / "model.onnx").read_bytes() for each in (again, repaired)]
    assert models[0] == models[1]


def test_two_layers_go_back_after_a_stage_that_trains(tmp_path: Path) -> None:
    result = applied(spoiled("second", "third"), tmp_path / "out", recipe="distill+ptq", steps=(0,))
    assert result.repair is not None
    assert set(result.repair.layers) == {"second", "third"}
    assert [file.stage for file in result.files] == ["", "distill", "distill+ptq"]
    assert "distill(" in open_artifact(result.artifact).manifest.recipe
    assert len(result.trainings) == 1, "nothing is trained again"


def test_a_loss_that_no_choice_of_layers_avoids_fails_as_before(tmp_path: Path) -> None:
    with pytest.raises(NoEffectError, match=r"ptq lost .*; the budget is -100") as caught:
        applied(spoiled(), tmp_path / "out", max_loss="-100pt")
    assert "Even 3 of 4 layers in float do not keep it within the budget. The least loss is" in (
        caught.value.hint or ""
    )
    assert "in float: allow it with max_loss=" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


def test_a_network_within_the_limit_is_left_as_it_is(tmp_path: Path) -> None:
    assert applied(spoiled(), tmp_path / "out").repair is None


def test_any_loss_may_be_allowed(tmp_path: Path) -> None:
    assert applied(spoiled("second"), tmp_path / "out", max_loss="none").repair is None


@pytest.mark.parametrize(
    "needed", [{"a"}, {"b"}, {"c"}, {"a", "b"}, {"b", "d"}, {"a", "c", "e"}, {"a", "b", "c", "d", "e", "f"}]
)
def test_the_fewest_layers_are_found(needed: set[str]) -> None:
    calls: list[tuple[str, ...]] = []

    def fits(layers: object) -> bool:
        calls.append(tuple(layers))  # type: ignore[arg-type]
        return needed <= set(calls[-1])

    found = fewest(list("abcdefg"), fits)
    assert found is not None
    assert set(found) == needed
    assert next(call for call in reversed(calls) if needed <= set(call)) == found
    assert len(calls) == len(set(calls)) <= 10


def test_one_layer_always_stays_rounded() -> None:
    asked: list[int] = []
    assert fewest(list("abcde"), lambda layers: asked.append(len(layers)) or False) is None  # type: ignore[func-returns-value]
    assert asked == [1, 2, 4]
    assert fewest(["a"], lambda layers: True) is None
