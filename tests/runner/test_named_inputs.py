"""Inputs that are named one by one: files of images and arrays, numbers, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from zoo.contracts import InputSpec
from zoo.contracts.input_parts import InputPart
from zoo.errors import InputError, UsageError
from zoo.runner.named_inputs import NO_FILE, files_of_run, parse_named, read_named

PARTS = (
    InputPart("left", "rgb", (3, 6, 8)),
    InputPart("depth", "gray", (1, 6, 8)),
    InputPart("level", "tensor", (2,), 0, 10),
    InputPart("length", "integer"),
)
SPEC = InputSpec.of_parts(PARTS)
NET = SimpleNamespace(architecture="a-net", input=SPEC)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("left.png")
    np.save("depth.npy", np.full((1, 6, 8), 0.25, np.float32))
    np.savez("rest.npz", depth=np.full((3, 1, 6, 8), 0.25, np.float32), length=np.arange(3))
    return tmp_path


def test_each_input_is_a_file_or_numbers(folder: Path) -> None:
    named = parse_named(["left=left.png", "depth=depth.npy", "level=0.5,3", "length=7"])
    assert files_of_run(NET, named, []) == [NO_FILE]
    left, depth, level, length = SPEC.packing.unpack(read_named(NO_FILE, SPEC, named))
    assert np.allclose(left[0], PIXELS.transpose(2, 0, 1) / 255)
    assert (depth == 0.25).all()
    assert level.tolist() == [[0.5, 3]]
    assert length.tolist() == [7]


def test_files_hold_what_is_not_named(folder: Path) -> None:
    image = read_named(Path("left.png"), SPEC, {"depth": "depth.npy", "level": "2", "length": "1"})
    several = read_named(Path("rest.npz"), SPEC, {"left": "left.png", "level": "2", "length": "9"})
    assert image.shape == (1, *several.shape[1:])
    assert len(several) == 3
    left, _, level, length = SPEC.packing.unpack(several)
    assert np.array_equal(left[2], left[0])
    assert (level == 2).all()
    assert length.tolist() == [9, 9, 9], "what is named goes before what the file holds"


def test_images_take_the_size_of_a_network_with_a_fixed_one(folder: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save("large.jpg")
    fixed = InputSpec.of_parts(PARTS, fixed_size=True)
    named = {"left": "large.jpg", "depth": "large.jpg", "level": "1", "length": "1"}
    assert read_named(NO_FILE, fixed, named).shape[2:] == (6, 8)
    assert read_named(NO_FILE, SPEC, named).shape[2:] == (60, 80)


@pytest.mark.parametrize(
    ("texts", "files", "message"),
    [
        (["left"], [], "is not NAME=VALUE"),
        (["level=1", "level=2"], [], "is named twice"),
        (["levle=1"], ["a.npz"], "has no input 'levle'; did you mean 'level'"),
        (["level=1"], [], "Nothing is given for the inputs left, depth, length"),
        (["left=a", "depth=b", "level=1", "length=1"], ["a.npz"], "files are too much"),
    ],
)
def test_names_that_do_not_fit_are_refused(texts: list[str], files: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        files_of_run(NET, parse_named(texts), [Path(file) for file in files])
    assert refused.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("level=many", "neither a file that exists nor numbers"),
        ("level=1,2,3", "has 3 numbers; level .tensor 2. has 2"),
        ("level=left.png", "is not one"),
        ("left=gone.png", "does not exist"),
        ("length=1.5", "whole numbers"),
        ("level=nan", "NaN or infinite"),
    ],
)
def test_values_that_do_not_fit_are_refused(folder: Path, text: str, message: str) -> None:
    named = {"left": "left.png", "depth": "0.5", "level": "1", "length": "1", **parse_named([text])}
    with pytest.raises(InputError, match=message):
        read_named(NO_FILE, SPEC, named)
