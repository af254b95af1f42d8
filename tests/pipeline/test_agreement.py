"""No artifact is written whose file does not compute what the network does, unless the user accepts that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo.artifacts.artifact import open_artifact
from zoo.contracts import SilentReporter
from zoo.errors import DisagreementError
from zoo.pipeline.api import apply
from zoo_cli.main import main

SOURCE = """
import torch
from torch import nn
from zoo.contracts import InputSpec

INPUT = InputSpec("rgb", 3, example=(32, 32))

class Lies(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 10, 3, 2, 1)

    def forward(self, x):
        x = self.first(x)
        if torch.compiler.is_exporting():
            x = x * 2
        return self.second(x.relu()).mean((2, 3))

class Normed(nn.Sequential):
    def __init__(self):
        norm = nn.utils.parametrizations.weight_norm
        layers = norm(nn.Conv2d(3, 8, 3, 2, 1)), nn.ReLU(), nn.Conv2d(8, 10, 3, 2, 1), nn.AvgPool2d(8)
        super().__init__(*layers, nn.Flatten())
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mynet.py"
    path.write_text(SOURCE)
    return path


def trained(source: Path, factory: str, *options: str) -> int:
    given = ["--steps", "0", "--images", "2"]
    return main(["train", f"{source}:{factory}", *given, "--out", str(source.parent / "out"), *options])


def test_a_file_that_computes_something_else_is_not_written(source: Path, capsys) -> None:
    assert trained(source, "Lies") == DisagreementError.exit_code
    printed = capsys.readouterr().err
    assert "it differs first in the input of 'second'" in printed
    assert "--accept-disagreement" in printed
    assert not (source.parent / "out").exists()


def test_what_is_accepted_is_said_and_recorded(source: Path, capsys) -> None:
    assert trained(source, "Lies", "--accept-disagreement", "--json") == 0
    printed = capsys.readouterr()
    (accepted,) = json.loads(printed.out)["accepted_disagreements"]
    assert "does not compute what" in accepted
    assert f"Accepted: {accepted}" in " ".join(printed.err.split())
    artifact = open_artifact(source.parent / "out")
    metrics = artifact.metrics()
    assert metrics["accepted_disagreements"] == [accepted]
    agreement = metrics["files"][-1]["agreement"]
    assert agreement["signal_to_error_db"] < 25 < agreement["required_db"]
    assert "states no normalisation" not in printed.err, "random weights were trained on nothing"
    assert f"Accepted: {accepted}" in artifact.read("README.md").decode()


def test_agreement_is_recorded_and_computed_weights_become_plain(source: Path, tmp_path: Path) -> None:
    notes = SilentReporter()
    result = apply(
        f"{source}:Normed(trained=true)", "ptq", out=tmp_path / "out", images=2, reporter=notes
    )  # fmt: skip
    assert any("0.weight" in note for note in notes.notes)
    assert any("states no normalisation" in note and "MEAN and STD" in note for note in notes.notes)
    assert [file.agreement.agrees for file in result.files] == [True, True]
    assert result.accepted == ()
