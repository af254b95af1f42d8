"""An artifact is opened only if it is whole, and read only if it is what its manifest lists."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support import tiny
from zoo.artifacts import Artifact, GoldenCheck, open_artifact, write_artifact
from zoo.artifacts.card import card_text
from zoo.artifacts.figures import Figure, figures_of, format_number
from zoo.artifacts.golden import agreement_psnr, check_golden, golden_bytes, output_psnr, read_golden
from zoo.contracts import OutputSpec
from zoo.errors import IntegrityError, OutputError, UnknownIdError


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return tiny.bayer_artifact(tmp_path / "a")


class Constant:
    """A session that gives one value everywhere, as a broken engine might."""

    def __init__(self, value: float) -> None:
        self.value = value

    def run(self, inputs: np.ndarray) -> np.ndarray:
        n, _, h, w = inputs.shape
        return np.full((n, 3, 2 * h, 2 * w), self.value, np.float32)


def test_what_was_written_is_opened_and_read_again(artifact: Artifact) -> None:
    again = open_artifact(artifact.path)
    assert again == artifact
    again.verify()
    assert again.read("README.md") == b"# tiny\n"
    files = {"zoo.json", "config.json", "model.onnx", "golden.safetensors", "README.md"}
    assert set(os.listdir(artifact.path)) == files
    assert json.loads(again.read("config.json"))["library_name"] == "compression-zoo"
    assert again.metrics() == {}


def test_a_flipped_bit_is_found_in_every_file(artifact: Artifact) -> None:
    for name in artifact.manifest.files:
        file = artifact.path / name
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        opened = open_artifact(artifact.path)
        with pytest.raises(IntegrityError, match=f"{name} is not the file its manifest lists"):
            opened.read(name)
        with pytest.raises(IntegrityError, match=name):
            opened.verify()
        file.write_bytes(content)
    open_artifact(artifact.path).verify()


@pytest.mark.parametrize(
    ("change", "relation"), [(lambda c: c[:-1], "shorter"), (lambda c: c + b"x", "longer")]
)
def test_a_file_of_another_length_is_found(
    artifact: Artifact, change: Callable[[bytes], bytes], relation: str
) -> None:
    file = artifact.path / "model.onnx"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(IntegrityError, match=f"{relation} than"):
        open_artifact(artifact.path).read("model.onnx")
    with pytest.raises(IntegrityError, match=f"{relation} than"):
        open_artifact(artifact.path).verify()


def remove(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def add(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(b"")


def link(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


def link_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent)


def link_manifest(folder: Path) -> None:
    (folder / "zoo.json").rename(folder.parent / "zoo.json")
    (folder / "zoo.json").symlink_to(folder.parent / "zoo.json")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def newer(folder: Path) -> None:
    value = json.loads((folder / "zoo.json").read_bytes())
    (folder / "zoo.json").write_text(json.dumps({**value, "format": 2}))


def huge(folder: Path) -> None:
    with (folder / "zoo.json").open("ab") as stream:
        stream.write(b" " * (2 << 20))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove, "model.onnx is missing"),
        (add, "model.onnx.data does not belong"),
        (link, "model.onnx is a symbolic link"),
        (link_folder, "more is a symbolic link"),
        (link_manifest, "zoo.json is a symbolic link"),
        (pipe, "pipe is a device or a pipe"),
        (newer, "artifact format 2"),
    ],
)
def test_an_altered_folder_is_not_opened(
    artifact: Artifact, damage: Callable[[Path], None], message: str
) -> None:
    damage(artifact.path)
    with pytest.raises(IntegrityError, match=message):
        open_artifact(artifact.path)


def test_a_manifest_of_absurd_size_is_not_read(artifact: Artifact) -> None:
    huge(artifact.path)
    with pytest.raises(IntegrityError, match="larger than"):
        open_artifact(artifact.path)


def test_what_is_no_artifact_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    for path, message in (
        (tmp_path, "has no zoo.json"),
        (tmp_path / "f", "is a file"),
        (tmp_path / "x", "not exist"),
    ):
        with pytest.raises(UnknownIdError, match=message):
            open_artifact(path)


def test_an_existing_artifact_is_replaced_only_on_request(artifact: Artifact) -> None:
    contents = {"model.onnx": b"other"}
    described = tiny.manifest(golden=None)
    with pytest.raises(OutputError, match="already exists"):
        write_artifact(artifact.path, described, contents)
    write_artifact(artifact.path, described, contents, replace=True)
    assert open_artifact(artifact.path).read("model.onnx") == b"other"
    assert os.listdir(artifact.path.parent) == ["a"]


def test_a_folder_that_is_no_artifact_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_bytes(b"years")
    with pytest.raises(OutputError, match="is not an artifact, so it is not replaced"):
        write_artifact(tmp_path / "home", tiny.manifest(golden=None), {"model.onnx": b""}, replace=True)
    assert (tmp_path / "home" / "thesis.tex").read_bytes() == b"years"


def test_what_could_not_be_opened_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        write_artifact(tmp_path / "a", tiny.manifest(golden=None), {"../model.onnx": b""})
    with pytest.raises(IntegrityError, match=r"golden\.safetensors"):
        write_artifact(tmp_path / "a", tiny.manifest(), {"model.onnx": b""})
    assert os.listdir(tmp_path) == []


def test_golden_outputs_pass_a_right_engine_and_stop_a_wrong_one(artifact: Artifact) -> None:
    (inputs, golden), *_ = read_golden(artifact)
    expected = golden["output"]

    class Right:
        def run(self, given: np.ndarray) -> np.ndarray:
            assert np.array_equal(given, inputs)
            return expected + np.float32(1e-4)

    measured = check_golden(Right(), artifact, "engine 1.0")
    assert measured == pytest.approx(80, abs=0.1)
    with pytest.raises(IntegrityError, match=r"engine 1\.0 computes"):
        check_golden(Constant(0.5), artifact, "engine 1.0")
    with pytest.raises(IntegrityError, match=r"computes .* wrongly"):
        check_golden(Constant(float("nan")), artifact, "engine 1.0")


def test_an_output_of_another_shape_stops_the_golden_check(artifact: Artifact) -> None:
    class Flat:
        def run(self, given: np.ndarray) -> np.ndarray:
            return given

    with pytest.raises(IntegrityError, match="is expected"):
        check_golden(Flat(), artifact, "engine 1.0")


@pytest.mark.parametrize(
    "content",
    [
        b"not safetensors",
        golden_bytes([]),
        golden_bytes([(np.full((1, 4, 2, 2), np.nan, np.float32), np.zeros((1, 3, 4, 4), np.float32))]),
    ],
)
def test_a_damaged_golden_file_is_an_integrity_error(tmp_path: Path, content: bytes) -> None:
    described = tiny.manifest(golden=GoldenCheck("g", 40))
    artifact = write_artifact(tmp_path / "a", described, {"model.onnx": b"", "g": content})
    with pytest.raises(IntegrityError):
        read_golden(artifact)


def test_psnr_is_that_of_the_textbook() -> None:
    zeros = np.zeros((1, 3, 4, 4), np.float32)
    assert output_psnr(zeros, zeros) == 100
    assert output_psnr(zeros + np.float32(0.1), zeros) == pytest.approx(20)
    assert output_psnr(zeros + np.float32(1), zeros, peak=10) == pytest.approx(20)


METRICS = {
    "command": "zoo apply depthwise unet --out x",
    "baseline": "unet",
    "figures": [
        Figure("parameters", "Parameters", "", 7760748, 1513812, "counted in model.onnx").to_json(),
        Figure("psnr_db", "PSNR", "dB", 27.51, 27.1, "`zoo eval x --data darkroom`").to_json(),
    ],
    "training": {"data": "darkroom", "steps": 1000, "hours": 1.25, "photographs": ["a", "b"]},
    "notes": ["The first convolution was left alone."],
}


def test_a_card_says_what_was_measured_how_and_how_to_run_it() -> None:
    text = card_text("lighter", tiny.manifest(), METRICS)
    for expected in (
        "# lighter",
        "`qat(bits=8)`",
        tiny.FINGERPRINT,
        "| Parameters | 7,760,748 | 1,513,812 |",
        "| PSNR | 27.51 dB | 27.1 dB |",
        "- PSNR: `zoo eval lighter --data darkroom`",
        "zoo apply depthwise unet --out x",
        "- steps: 1000",
        "- hours: 1.25",
        "- photographs: a, b",
        "- The first convolution was left alone.",
        "zoo run lighter IMG_0001.DNG -o pictures",
    ):
        assert expected in text
    assert text.startswith("---\nlibrary_name: compression-zoo\n")


def test_figures_that_are_no_numbers_are_refused() -> None:
    rows = [{**METRICS["figures"][0], "after": "many"}]  # type: ignore[index,dict-item]
    with pytest.raises(IntegrityError, match=r"figures\[0\]\.after"):
        figures_of({"figures": rows})


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1513812, "", "1,513,812"),
        (1.999, "G", "1.999 G"),
        (0.787, "", "0.787"),
        (None, "dB", "-"),
        (51234.5, "ms", "51,234 ms"),
    ],
)
def test_numbers_are_written_for_readers(value: float | None, unit: str, shown: str) -> None:
    assert format_number(value, unit) == shown


def test_boxes_agree_in_whatever_order_they_are() -> None:
    spec = OutputSpec("boxes", 2)
    boxes = np.float32([[[0, 0, 8, 8, 0.9, 0], [4, 4, 9, 9, 0.6, 1], [0, 0, 0, 0, 0, 0]]])
    assert agreement_psnr(boxes[:, ::-1], boxes, spec) > 60
    other_class = boxes.copy()
    other_class[0, 0, 5] = 1
    assert agreement_psnr(other_class, boxes, spec) < 5, "the best box is missed"
    assert agreement_psnr(boxes * np.float32(np.nan), boxes, spec) == -np.inf
