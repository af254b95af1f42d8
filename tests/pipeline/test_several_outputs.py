"""Networks with several and nested outputs: exported, compared, rounded and scored output by output."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo import plugins
from zoo.artifacts.artifact import open_artifact
from zoo.artifacts.golden import check_golden, read_golden
from zoo.contracts import SilentReporter
from zoo.errors import DisagreementError, IntegrityError, NoEffectError
from zoo.evaluation.evaluator import evaluate_artifact
from zoo.export.exporter import export_onnx
from zoo.export.file_agreement import compare_file
from zoo.onnx.check import check_onnx
from zoo.pipeline.api import apply
from zoo.pipeline.result import Result
from zoo.runner.loading import load
from zoo.training.loop import TrainingSettings, train
from zoo.training.schedule import Budget

NETWORK = """
import torch
from torch import nn
from torch.nn import functional

INPUT, OUTPUT, TRAINED = "rgb:3x32x32", "classes:4", True


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        )
        self.classes, self.boxes = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 8, 3, padding=1)

    def forward(self, x):
        y = self.stem(x)
        large = functional.interpolate(self.classes(y), scale_factor=2.0, mode="nearest")
        return {"aux": [self.boxes(y), y.mean((2, 3))], "out": large}


def make():
    return Heads()
"""
NAMES = ("aux_0", "aux_1")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("net") / "heads.py"
    path.write_text(NETWORK)
    return f"{path}:make"


@pytest.fixture(scope="module")
def rounded(own: str, tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("out") / "int8"
    return apply(own, "ptq", data="photos", images=2, crop=32, out=out)


def test_the_main_output_is_the_one_that_is_stated_and_the_others_are_named(own: str) -> None:
    architecture = plugins.architecture(own, own_files=True)
    assert (architecture.output.kind, architecture.output.channels) == ("classes", 4)
    assert {name: spec.channels for name, spec in architecture.extra_outputs.items()} == {
        "aux_0": 8, "aux_1": 32,
    }  # fmt: skip


def test_every_output_is_in_the_file_the_manifest_the_golden_outputs_and_the_scores(rounded: Result) -> None:
    artifact = open_artifact(rounded.artifact)
    assert tuple(artifact.manifest.extra_outputs) == NAMES
    session = plugins.engine("onnxruntime").open(rounded.artifact / "model.onnx")
    assert list(session.run_all(np.zeros((1, 3, 32, 32), np.float32))) == ["output", *NAMES]
    assert all(set(outputs) == {"output", *NAMES} for _, outputs in read_golden(artifact))
    assert check_golden(session, artifact, "it") > 30
    scores = json.loads((rounded.artifact / "metrics.json").read_text())["files"][-1]["quality"]
    assert scores["compared_with"] == "the original network"
    assert all(scores["extra_outputs"][name]["signal_to_error_db"] > 20 for name in NAMES)
    assert any(row[0] == "aux_1, signal to error" for row in rounded.table_cells()[1])


def test_a_process_of_its_own_returns_every_output_as_this_one_does(rounded: Result) -> None:
    inputs = np.random.default_rng(0).random((2, 3, 32, 40), dtype=np.float32)
    expected = plugins.engine("onnxruntime").open(rounded.artifact / "model.onnx").run_all(inputs)
    for supervised in (True, False):
        loaded = load(open_artifact(rounded.artifact), plugins.device("host"), supervised=supervised)
        try:
            found = loaded.session.run_all(inputs)
            again = loaded.session.run(inputs)
        finally:
            loaded.session.close()
        assert list(found) == list(expected)
        assert all(np.allclose(found[name], value, atol=1e-5) for name, value in expected.items())
        assert np.array_equal(found["output"], again)


def test_eval_scores_every_output_against_another_artifact(rounded: Result) -> None:
    name = str(rounded.artifact)
    found = evaluate_artifact(name, reporter=SilentReporter(), data="photos", images=1, against=name)
    assert {
        each: values["signal_to_error_db"] for each, values in found.quality.extras.items()
    } == dict.fromkeys(NAMES, 100.0)


def test_a_wrong_golden_output_besides_the_main_one_is_noticed(rounded: Result) -> None:
    class Wrong:
        def __init__(self) -> None:
            self.inner = plugins.engine("onnxruntime").open(rounded.artifact / "model.onnx")

        def run(self, inputs: np.ndarray) -> np.ndarray:
            return self.inner.run(inputs)

        def run_all(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
            return {**self.inner.run_all(inputs), "aux_1": np.zeros((1, 32), np.float32)}

    with pytest.raises(IntegrityError, match=r"computes .* wrongly"):
        check_golden(Wrong(), open_artifact(rounded.artifact), "it")


def test_a_file_that_differs_in_another_output_is_refused_by_its_name(own: str) -> None:
    architecture = plugins.architecture(own, own_files=True)
    net = architecture.build().eval()
    exported = export_onnx(net, architecture)
    with torch.no_grad():
        net.boxes.weight.mul_(1.5)
    found = compare_file(net, architecture, exported, [np.full((1, 3, 32, 32), 0.5, np.float32)])
    assert not found.agrees
    assert "the output 'aux_0'" in found.first
    assert DisagreementError.exit_code == 11


def test_a_file_without_an_output_of_the_manifest_is_refused(own: str) -> None:
    architecture = plugins.architecture(own, own_files=True)
    data = export_onnx(architecture.build().eval(), architecture)
    check_onnx(data, architecture.input, architecture.output, architecture.extra_outputs)
    with pytest.raises(IntegrityError, match="3 outputs"):
        check_onnx(data, architecture.input, architecture.output)
    other = {**architecture.extra_outputs, "aux_1": plugins.load("architectures", "unet").output}
    with pytest.raises(IntegrityError, match="output 'aux_1'"):
        check_onnx(data, architecture.input, architecture.output, other)


def test_training_without_labels_follows_every_output(own: str) -> None:
    architecture = plugins.architecture(own, own_files=True)
    teacher = architecture.build().eval()
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.boxes.weight.mul_(0.5)
    example = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    wanted = teacher(example)["aux"][0]
    off = (student(example)["aux"][0] - wanted).square().mean()
    settings = TrainingSettings(Budget(steps=60), batch=2, crop=32, learning_rate=3e-3)
    trained, _ = train(
        student, architecture=architecture, dataset=plugins.dataset("photos"), settings=settings,
        reporter=SilentReporter(), teacher=teacher, freeze_norm=True,
    )  # fmt: skip
    assert (trained(example)["aux"][0] - wanted).square().mean() < off / 4


def test_an_output_that_is_lost_ends_the_run_by_its_name(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo_techniques.ptq import Ptq

    finish = Ptq.finish

    def spoil(self: Ptq, model: torch.nn.Module, context: object) -> torch.nn.Module:
        finished = finish(self, model, context)
        with torch.no_grad():
            finished.get_submodule("boxes").weight.neg_()
        return finished

    monkeypatch.setattr(Ptq, "finish", spoil)
    with pytest.raises(NoEffectError, match="'aux_0' no longer follows"):
        apply(own, "ptq", data="photos", images=1, crop=32, out=tmp_path / "out")
