"""Networks that do not take inputs of any size: the exported file takes those that they do, and says which."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from zoo.artifacts.artifact import open_artifact
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo_cli.main import main

SOURCE = """
import math
from torch import nn
from torch.nn import functional

def flat():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 10)
    )

class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.strided = nn.Conv2d(32, 32, 3, 2, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.strided(x)
        y += self.pool(x)
        return self.head(y.mean((2, 3)))

class Windows(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(32 if i else 3, 32, 3, 2) for i in range(4))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        for layer in self.layers:
            rows, columns = (max((math.ceil(side / 2) - 1) * 2 + 3 - side, 0) for side in x.shape[2:])
            x = layer(functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))).relu()
        return self.head(x.mean((2, 3)))

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        column = 65 if x.shape[3] > 64 else 0
        return self.head(self.layers(x)[:, :, :, column].mean(2))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mynet.py"
    path.write_text(SOURCE)
    return path


def applied(source: Path, factory: str, *options: str, recipe: str = "ptq") -> int:
    where = ["--input", "rgb:3x64x64", "--output", "logits:10", "--out", str(source.parent / "out")]
    return main(["apply", recipe, f"{source}:{factory}", *where, "--images", "2", *options])


def runs(folder: Path, height: int, width: int) -> tuple[int, ...]:
    session = OnnxRuntimeEngine().open(open_artifact(folder).read("model.onnx"), threads=1)
    return session.run(np.zeros((1, 3, height, width), np.float32)).shape


def test_a_layer_on_flattened_pixels_leaves_one_size_and_the_run_says_so(source: Path, capsys) -> None:
    assert applied(source, "flat", "--json") == 0
    printed = capsys.readouterr()
    assert "accepts only inputs of 64x64" in printed.err
    out = source.parent / "out"
    assert json.loads(printed.out)["artifact"] == str(out)
    assert open_artifact(out).manifest.input.fixed_size
    assert runs(out, 64, 64) == (1, 10)


def test_the_card_of_a_classifier_says_how_to_get_what_it_is_compared_with(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    assert applied(source, "flat") == 0
    card = (source.parent / "out" / "README.md").read_text()
    compared = re.search(r"(zoo eval .*) (--against .*), which this writes: (zoo train .*)", card)
    assert compared
    for command in (compared[3], f"{compared[1]} {compared[2]}"):
        assert main(shlex.split(command)[1:]) == 0


def test_sizes_that_take_too_long_to_derive_leave_one_size(source: Path, capsys) -> None:
    """Padding that keeps halves whole: each such layer makes the formula three times as long."""
    assert applied(source, "Windows", "--steps", "1", recipe="depthwise") == 0
    assert "operations to derive" in capsys.readouterr().err
    assert open_artifact(source.parent / "out").manifest.input.fixed_size


def test_a_branch_on_the_size_leaves_the_size_whose_branch_the_file_has(source: Path, capsys) -> None:
    """torch exports the branch of another size than the example's; the file that does not run is not taken."""
    assert applied(source, "Branches", "--steps", "1", recipe="depthwise") == 0
    assert "accepts only inputs of 64x64" in capsys.readouterr().err
    assert runs(source.parent / "out", 64, 64) == (1, 10)


def test_a_sum_of_two_ways_to_halve_leaves_multiples_and_the_run_says_so(source: Path, capsys) -> None:
    assert applied(source, "Halves") == 0
    assert "sides that are multiples of 32" in capsys.readouterr().err
    out = source.parent / "out"
    spec = open_artifact(out).manifest.input
    assert (spec.multiple_of, spec.fixed_size) == (32, False)
    assert runs(out, 96, 32) == (1, 10)


def test_crops_of_another_size_than_the_only_one_are_refused(source: Path, capsys) -> None:
    assert applied(source, "flat", "--crop", "32") == 2
    assert "the crop size cannot be 32" in capsys.readouterr().err
    assert not (source.parent / "out").exists()
