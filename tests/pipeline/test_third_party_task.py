"""A task, a dataset and a network of a third party pass through every command; nothing in zoo knows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import fake_distributions
from zoo import plugins
from zoo.contracts import SilentReporter
from zoo.errors import NoEffectError, UsageError
from zoo.evaluation.evaluator import evaluate_artifact
from zoo.pipeline.api import apply
from zoo.pipeline.result import Result
from zoo_cli.main import main

SOURCE = '''
from dataclasses import dataclass

import numpy as np

from zoo.contracts import Architecture, Dataset, InputSpec, Metric, OutputSpec, Sample, Shown, Task


class Reading(Task):
    contract = 1
    id = "dial-reading"
    summary = "the value that a dial shows"
    outputs = ("tensor",)
    measures = (Metric("mean_error", "mean error", "bar", 3, higher_is_better=False, limit=0.5),)

    def loss(self, output):
        from torch.nn import functional
        return functional.mse_loss

    def scorer(self, output):
        from zoo.tasks import MeanScorer
        return MeanScorer(lambda found, wanted: {"mean_error": float(abs(found[0] - wanted[0]))})

    def show(self, prediction, inputs, output, names=()):
        return Shown([{"reading": round(float(prediction[0]), 3)}])


@dataclass(frozen=True)
class Config:
    pass


class Dials(Dataset):
    """The reading is the mean of the image."""

    contract = 1
    id = "dials"
    summary = "gray images of a level"
    Config = Config
    tasks = frozenset({"dial-reading"})

    def scenes(self, split):
        return [f"{split}-{number}" for number in range(12)]

    def crops(self, architecture, size, seed, start=0):
        while True:
            yield self.sample(f"train-{start % 12}", np.random.default_rng((seed, start)), size)
            start += 1

    def frames(self, architecture, split, seed=0):
        for scene in self.scenes(split):
            yield self.sample(scene, np.random.default_rng((seed, *scene.encode())), 16)

    def identity(self):
        return "dials 1"

    def sample(self, scene, rng, size):
        level = rng.random(dtype=np.float32)
        inputs = np.clip(level + rng.normal(0, 0.02, (1, size, size)), 0, 1).astype(np.float32)
        return Sample(scene, scene, inputs, inputs.mean(axis=(1, 2)))


class Reader(Architecture):
    contract = 1
    id = "dial-reader"
    summary = "two convolutions and a mean"
    task = "dial-reading"
    input = InputSpec("gray", 1, example=(16, 16), fixed_size=True)
    output = OutputSpec("tensor", 1)
    trained = True

    def build(self):
        import torch
        from torch import nn
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1),
        )
        torch.manual_seed(0)
        for parameter in net.parameters():
            nn.init.normal_(parameter, 0, 0.2)
        return net
'''


@pytest.fixture(scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("site")
    groups = {
        "zoo.tasks": {"dial-reading": "zoo_dials:Reading"},
        "zoo.datasets": {"dials": "zoo_dials:Dials"},
        "zoo.architectures": {"dial-reader": "zoo_dials:Reader"},
    }
    fake_distributions.install(site, "zoo-dials", groups, SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield


@pytest.fixture(scope="module")
def trained(_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("out") / "float"
    return apply("dial-reader", None, data="dials", steps=150, learning_rate=0.01, batch=8, out=out)


@pytest.fixture(scope="module")
def rounded(trained: Result) -> Result:
    out = trained.artifact.with_name("int8")
    return apply("dial-reader", "ptq", data="dials", weights=str(trained.artifact), out=out)


@pytest.mark.usefixtures("_installed")
def test_it_is_listed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "dial-reading", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["distribution"] == "zoo-dials"
    assert record["measures"] == [
        {"key": "mean_error", "name": "mean error", "unit": "bar", "better": "lower", "may_lose": "0.5"}
    ]


def test_its_loss_trains_and_its_measure_is_in_table_card_and_metrics(
    trained: Result, rounded: Result
) -> None:
    before, after = (file.quality.values["mean_error"] for file in trained.files)
    assert after < before / 3, "the loss of the task is what training lowers"
    assert any(row[0] == "mean error" for row in rounded.table_cells()[1])
    assert "mean error" in (rounded.artifact / "README.md").read_text()
    stored = json.loads((rounded.artifact / "metrics.json").read_text())
    assert stored["files"][-1]["quality"]["mean_error"] == pytest.approx(
        rounded.files[-1].quality.values["mean_error"], rel=1e-4
    )
    assert json.loads((rounded.artifact / "zoo.json").read_text())["task"] == "dial-reading"


def test_eval_measures_by_it(rounded: Result) -> None:
    found = evaluate_artifact(str(rounded.artifact), reporter=SilentReporter(), data="dials")
    assert found.quality.labelled
    assert found.quality.values["mean_error"] == pytest.approx(
        rounded.files[-1].quality.values["mean_error"], rel=1e-5
    )


def test_losses_are_limited_in_its_direction(trained: Result, tmp_path: Path) -> None:
    given = {"data": "dials", "weights": str(trained.artifact), "out": tmp_path / "out"}
    with pytest.raises(NoEffectError, match="units of mean error"):
        apply("dial-reader", "ptq", max_loss=-1.0, **given)
    with pytest.raises(UsageError, match="not in dB"):
        apply("dial-reader", "ptq", max_loss="1dB", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_installed")
def test_data_for_another_task_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the task of dial-reader is dial-reading"):
        apply("dial-reader", "ptq", data="darkroom", out=tmp_path / "out")
    with pytest.raises(UsageError, match="No data is packaged for dial-reading"):
        apply("dial-reader", "ptq", out=tmp_path / "out")


@pytest.mark.usefixtures("_installed")
def test_an_architecture_may_hold_its_task_itself() -> None:
    class Held(plugins.load("architectures", "dial-reader")):  # type: ignore[misc]
        task = plugins.task("dial-reading")

    assert plugins.task_of(Held()) is Held.task
