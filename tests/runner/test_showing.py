"""`zoo run` shows what a person would look at, for every kind of output, and takes files, folders and a pipe."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnx
from onnx import TensorProto, helper, numpy_helper
from support import tiny
from zoo.artifacts import Artifact, write_artifact
from zoo.contracts import InputSpec, OutputSpec
from zoo.runner import api
from zoo_cli.main import main

FREE = InputSpec("rgb", 3, multiple_of=4, example=(16, 16))
FOUND = np.float32([[12, 23, 29, 38, 0.9, 1], [12, 23, 29, 38.5, 0.5, 1], [0, 0, 4, 4, 0.1, 0]])


def network(*outputs: tuple[str, np.ndarray | None, list[Any]]) -> bytes:
    """A network whose outputs are constants that hang on the input, or the input itself, by name and shape."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0), "zero")]
    results = []
    for name, value, shape in outputs:
        if value is None:
            nodes.append(helper.make_node("Add", ["input", "nothing"], [name]))
        else:
            weights.append(numpy_helper.from_array(value[None], f"{name}_value"))
            nodes.append(helper.make_node("Add", [f"{name}_value", "nothing"], [name]))
        results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, "H", "W"])
    graph = helper.make_graph(nodes, "shown", [entry], results, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def artifact(target: Path, model: bytes, output: OutputSpec, **changes: Any) -> Artifact:
    described = tiny.manifest(input=FREE, output=output, golden=None, **changes)
    return write_artifact(target, described, {"model.onnx": model})


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


GRAY = np.full((48, 64, 3), 128, np.uint8)


def test_boxes_are_listed_by_name_and_drawn_on_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = artifact(
        tmp_path / "a", network(("output", FOUND, [1, 3, 6])), OutputSpec("boxes", 2), classes=("cat", "dog")
    )
    shot = picture(tmp_path / "shot.png", GRAY)
    assert main(["run", str(made.path), str(shot), "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "dog (1)  90.0 %  at 12, 23 to 29, 38" in printed
    assert "cat" not in printed, "a score of 0.1 is not shown"
    assert printed.count("dog") == 1, "the worse of two that overlap goes"
    drawn = np.asarray(Image.open(tmp_path / "out/shot.png"))
    assert drawn.shape == GRAY.shape
    assert (drawn[23:39, 29] != 128).any(axis=1).all(), "the right edge of the box"
    assert (drawn[39:] == 128).all()


def test_the_class_of_each_pixel_is_a_picture_of_the_size_of_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network(("output", None, ["N", 3, "H", "W"]))
    made = artifact(tmp_path / "a", model, OutputSpec("classes", 3, 1), classes=("sky", "tree", "road"))
    pixels = np.zeros((10, 14, 3), np.uint8)
    pixels[:, :7, 1], pixels[:, 7:, 0] = 200, 200
    shot = picture(tmp_path / "shot.webp", pixels)
    assert main(["run", str(made.path), str(shot), "-o", str(tmp_path / "out"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["files"]
    assert [row["label"] for row in result["findings"]] == ["sky", "tree"]
    shown = np.asarray(Image.open(tmp_path / "out/shot.png"))
    assert shown.shape == (10, 14, 3)
    assert (shown[:, 10:] == 0).all(), "the first class is black"
    assert (shown[:, :4] != 0).any()


def test_an_image_that_does_not_fit_in_memory_is_refused_with_the_least_that_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = artifact(tmp_path / "a", network(("output", FOUND, [1, 3, 6])), OutputSpec("boxes", 2))
    shot = picture(tmp_path / "shot.png", np.zeros((3000, 4000, 3), np.uint8))
    assert main(["run", str(made.path), str(shot), "--memory", "400MB"]) != 0
    least = re.search(r"--memory (\d+)MB", capsys.readouterr().err)
    assert least is not None
    assert main(["run", str(made.path), str(shot), "--memory", f"{least[1]}MB"]) == 0
    assert main(["run", str(made.path), str(shot), "--memory", f"{int(0.9 * int(least[1]))}MB"]) != 0


def test_labels_come_with_names_and_confidences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logits = np.log(np.float32([0.1, 0.7, 0.2]))
    model = network(("output", logits, [1, 3]))
    made = artifact(tmp_path / "a", model, OutputSpec("logits", 3), classes=("bee", "cow", "emu"))
    assert main(["run", str(made.path), str(picture(tmp_path / "p.jpg", GRAY))]) == 0
    printed = capsys.readouterr().out
    assert "cow (1)  70.0 %" in printed
    assert printed.index("cow") < printed.index("emu") < printed.index("bee")


def test_tensors_are_described_and_written_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, other = np.float32([[1, 2, 3]]), np.float32([5, 7])
    model = network(("output", value, [1, 1, 3]), ("aux_0", other, [1, 2]))
    extra = {"aux_0": OutputSpec("tensor", 2)}
    made = artifact(tmp_path / "a", model, OutputSpec("tensor", 1), extra_outputs=extra)
    shot = picture(tmp_path / "shot.png", GRAY)
    assert main(["run", str(made.path), str(shot), "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "shape 1x3  least 1  mean 2  most 3" in printed
    assert "output 'aux_0': shape 2  least 5  mean 6  most 7" in printed
    stored = np.load(tmp_path / "out/shot.npz")
    assert np.array_equal(stored["output"], value)
    assert np.array_equal(stored["aux_0"], other)


def test_an_artifact_of_a_task_that_is_not_installed_shows_raw_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network(("output", np.float32([4]), [1, 1]))
    made = artifact(tmp_path / "a", model, OutputSpec("tensor", 1), task="no-such-task")
    assert main(["run", str(made.path), str(picture(tmp_path / "p.png", GRAY))]) == 0
    assert "shape 1  least 4" in capsys.readouterr().out


def test_folders_and_standard_input_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = artifact(tmp_path / "a", network(("output", np.float32([4]), [1, 1])), OutputSpec("tensor", 1))
    for name in ("b.png", "a.png", ".hidden"):
        picture(tmp_path / "shots" / "x.png", GRAY).rename(tmp_path / "shots" / name)
    buffer = io.BytesIO((tmp_path / "shots/a.png").read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    assert main(["run", str(made.path), str(tmp_path / "shots"), "-", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    shots = str(tmp_path / "shots")
    assert [each["file"] for each in files] == [f"{shots}/a.png", f"{shots}/b.png", "stdin"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no image")))
    assert main(["run", str(made.path), "-"]) == 5
    assert "standard input cannot be read as an image" in capsys.readouterr().err
    assert main(["run", str(made.path), shots, "-o", "-"]) == 2
    assert "not to standard output" in capsys.readouterr().err


def test_an_empty_folder_and_empty_standard_input_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = artifact(tmp_path / "a", network(("output", np.float32([4]), [1, 1])), OutputSpec("tensor", 1))
    (tmp_path / "none").mkdir()
    assert main(["run", str(made.path), str(tmp_path / "none")]) == 5
    assert "contains no files" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert main(["run", str(made.path), "-"]) == 5
    assert "holds nothing" in capsys.readouterr().err


def test_what_would_be_written_is_not_overwritten(tmp_path: Path) -> None:
    made = artifact(tmp_path / "a", network(("output", FOUND, [1, 3, 6])), OutputSpec("boxes", 2))
    shot = picture(tmp_path / "shot.png", GRAY)
    out = tmp_path / "out"
    assert main(["run", str(made.path), str(shot), "-o", str(out)]) == 0
    assert main(["run", str(made.path), str(shot), "-o", str(out)]) == 2
    (again,) = api.run(made, shot, out, resume=True)
    assert again.skipped
