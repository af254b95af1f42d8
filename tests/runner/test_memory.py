"""`zoo run` keeps to the memory it is given, says beforehand what it needs, and holds no picture whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support import tiny
from support.dngs import PHASES, XTRANS, dng, frame
from zoo.artifacts import Artifact, open_artifact
from zoo.contracts import DeviceProfile
from zoo.doctor import Severity, examine
from zoo.doctor.fitting import fit_findings
from zoo.errors import InputError, UsageError
from zoo.machine.memory import parse_size
from zoo.onnx.working_set import measure_working_set
from zoo.raw.pack import Packer
from zoo.raw.prefetch import PrefetchingDecoder
from zoo.runner.budget import MB, Frame, board_limit, footprint, usual_limit
from zoo_cli.main import main

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
GROUPS = Path("/sys/fs/cgroup/memory")


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shots") / "large.dng"
    path.write_bytes(dng(frame((1200, 1800))))
    return path


def zoo(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def in_process_of_its_own(*arguments: Any, before: str = "", code: int = 0) -> tuple[Any, str]:
    """The JSON report of a command, if it succeeds, and its errors. before: what a shell does first."""
    command = f'{before} exec "$0" -m zoo_cli "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return (json.loads(done.stdout) if code == 0 else None), done.stderr


# -------------------------------------------------------------------------------------------------- packing


@pytest.mark.parametrize("phase", [*PHASES, "xtrans"])
def test_a_part_is_packed_as_the_whole_is(phase: str) -> None:
    pattern = np.roll(XTRANS, (2, 1), (0, 1)) if phase == "xtrans" else PHASES[phase]
    packer = Packer(
        frame((61, 83), pattern, (512,) * 4),
        "xtrans" if phase == "xtrans" else "bayer",
        3.0,
        white_balance=True,
    )
    whole = packer.packed().data
    assert whole.shape[1:] == packer.shape
    rng = np.random.default_rng(0)
    for _ in range(40):
        top, bottom = sorted(rng.choice(packer.shape[0] + 1, 2, replace=False))
        left, right = sorted(rng.choice(packer.shape[1] + 1, 2, replace=False))
        part = packer.crop(slice(top, bottom), slice(left, right))
        assert np.array_equal(part, whole[:, top:bottom, left:right])


# ------------------------------------------------------------------------------------------------ the model


def test_the_working_set_of_a_small_network_is_that_worked_out_by_hand() -> None:
    # 8 floats of the skip and 12 of the head's input at most: the concatenation of 8 + 8 beside what it joins
    assert measure_working_set(tiny.small_unet(), 4).live == 4 * (4 + 8 + 8 + 16)
    assert not measure_working_set(tiny.small_unet(), 4).integer


@pytest.mark.parametrize(("name", "live"), [("unet", 528), ("lighter-unet", 528), ("lighter-unet-int8", 216)])
def test_the_working_set_of_the_checkpoints_is_what_was_traced(name: str, live: int) -> None:
    """Allocations of ONNX Runtime 1.31 without an arena, at 4 x 1024 x 1024."""
    if not (CHECKPOINTS / name).exists():
        pytest.skip(f"{name} is not here")
    found = measure_working_set((CHECKPOINTS / name / "model.onnx").read_bytes(), 4)
    assert found.live == live
    assert found.integer == (name == "lighter-unet-int8")


@pytest.mark.parametrize("limit", [200, 300, 500, 2000])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_tiling_keeps_to_its_limit_and_uses_it(bayer: Artifact, limit: int, rotated: bool) -> None:
    need = footprint(bayer)
    shot = Frame(2000, 3000, 24_000_000, rotated)
    reserve = need.reserve(need.most_pixels(limit * MB))
    plan = need.plan(shot, "png", limit * MB, reserve)
    assert need.need(shot, plan, "png", reserve).planned <= limit * MB
    assert limit < 2000 or plan.tiles == 1
    assert need.least(shot) <= need.need(shot, plan, "png", reserve).most


def test_a_board_is_held_against_what_a_frame_takes(bayer: Artifact) -> None:
    need = footprint(bayer)
    shot = need.frame(2000, 3000)
    least, whole = need.least(shot), need.whole(shot)
    assert 90 * MB < least < whole

    def board(megabytes: int) -> DeviceProfile:
        return DeviceProfile("b", "a board", megabytes, ("float32",), ("onnxruntime",))

    assert least > board_limit(board(least // MB))  # the system needs some, too
    assert least <= board_limit(board(2 * least // MB))
    states = [
        next(fit_findings(bayer, board(memory), 6)).state for memory in (64, whole // MB - 1, 2 * whole // MB)
    ]
    assert states == [Severity.PROBLEM, Severity.NOTE, Severity.OK]
    assert any("24 megapixels" in finding.subject for finding in examine(artifact=bayer))
    assert usual_limit(board(256)) < 256 * MB
    assert footprint(bayer, engine="openvino").base > footprint(bayer).base


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512_000_000),
        ("1.5 GiB", 3 << 29),
        ("300M", 300_000_000),
        ("64kib", 65536),
        ("4000000", 4_000_000),
    ],
)
def test_sizes_are_read_as_they_are_written(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1MB", "0", "5 TB", "1e9", "MB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a memory size"):
        parse_size(text)


# --------------------------------------------------------------------------------------------------- limits


def test_a_limit_that_cannot_be_met_is_refused_with_the_least_that_would_do(
    bayer: Artifact, large: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert zoo("run", bayer.path, large, "-o", tmp_path, "--memory", "50MB") == 2
    assert "The network by itself" in capfd.readouterr().err
    assert zoo("run", bayer.path, large, "-o", tmp_path, "--memory", "140MB") == 2
    refused = capfd.readouterr().err
    assert f"{large} does not fit" in refused
    assert list(tmp_path.iterdir()) == []
    least = refused.partition("--memory ")[2].split()[0].rstrip(".")
    report, _ = in_process_of_its_own("run", bayer.path, large, "-o", tmp_path, "--json", "--memory", least)
    assert report["peak_rss_mb"] * MB <= parse_size(least)
    assert report["files"][0]["planned_mb"] <= report["memory_mb"]
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (1800, 1200)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group for memory of this test's own."""
    folder = GROUPS / f"zoo-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(240 * MB))
    except OSError:
        pytest.skip("no control group for memory can be made here")
    yield folder
    folder.rmdir()


def test_the_limit_of_a_control_group_is_found_and_kept(
    bayer: Artifact, large: Path, tmp_path: Path, group: Path
) -> None:
    enter = f"echo $$ > {group}/cgroup.procs;"
    report, _ = in_process_of_its_own("run", bayer.path, large, "-o", tmp_path, "--json", before=enter)
    assert report["memory_mb"] < 240
    assert int((group / "memory.failcnt").read_text()) == 0 or report["peak_rss_mb"] < 240


def test_limits_on_addresses_are_found_and_kept(bayer: Artifact, large: Path, tmp_path: Path) -> None:
    report, _ = in_process_of_its_own(
        "run", bayer.path, large, "-o", tmp_path, "--json", "--threads", 1, before="ulimit -d 360000;"
    )
    assert report["failed"] == 0
    assert report["memory_mb"] < 384


# -------------------------------------------------------------------------------------------------- batches


def test_a_batch_is_resumed_where_it_ended(
    bayer: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shots = [tmp_path / f"{name}.dng" for name in "abc"]
    for number, shot in enumerate(shots):
        shot.write_bytes(dng(frame((64 + 2 * number, 96))))
    out = tmp_path / "out"
    assert zoo("run", bayer.path, *shots, "-o", out) == 0
    (out / "b.png").unlink()
    kept = [(out / name).stat().st_mtime_ns for name in ("a.png", "c.png")]
    capfd.readouterr()
    assert zoo("run", bayer.path, *shots, "-o", out, "--resume", "--json") == 0
    files = json.loads(capfd.readouterr().out)["files"]
    assert [file.get("skipped", False) for file in files] == [True, False, True]
    assert [(out / name).stat().st_mtime_ns for name in ("a.png", "c.png")] == kept
    assert (out / "b.png").exists()
    assert zoo("run", bayer.path, *shots, "-o", out, "--resume") == 0  # nothing left to do
    assert zoo("run", bayer.path, *shots, "-o", out, "--resume", "--overwrite") == 2


def test_files_decoded_ahead_become_the_same_pictures(bayer: Artifact, tmp_path: Path) -> None:
    shots = [tmp_path / f"{name}.dng" for name in "abc"]
    for number, shot in enumerate(shots):
        mosaic = np.random.default_rng(number).integers(490, 4000, (80, 96 + 2 * number))
        shot.write_bytes(dng(frame(mosaic=mosaic)))
    assert zoo("run", bayer.path, *shots, "-o", tmp_path / "all") == 0
    for shot in shots:
        assert zoo("run", bayer.path, shot, "-o", tmp_path / "one") == 0
        of = [np.asarray(Image.open(tmp_path / folder / f"{shot.stem}.png")) for folder in ("all", "one")]
        assert np.array_equal(*of)


def test_the_decoder_may_be_ended_between_files(large: Path) -> None:
    with PrefetchingDecoder() as decoder:
        first = decoder.take(large)
        decoder.end_child()
        decoder.begin(large)
        assert np.array_equal(decoder.take(large).mosaic, first.mosaic)
        with pytest.raises(InputError, match="does not exist"):
            decoder.take(large.with_name("none.dng"))


@pytest.mark.parametrize("name", ["lighter-unet-int8"])
def test_a_checkpoint_in_tiles_gives_the_picture_of_the_whole(name: str, tmp_path: Path) -> None:
    if not (CHECKPOINTS / name).exists():
        pytest.skip(f"{name} is not here")
    artifact = open_artifact(CHECKPOINTS / name)
    mosaic = 512 + np.random.default_rng(0).poisson(60, (560, 880)).astype(np.uint16)
    (tmp_path / "a.dng").write_bytes(dng(frame(mosaic=mosaic, black=(512,) * 4)))
    for tile in (1024, 288):
        assert zoo("run", artifact.path, tmp_path / "a.dng", "-o", tmp_path / str(tile), "--tile", tile) == 0
    whole, tiled = (np.asarray(Image.open(tmp_path / str(tile) / "a.png")) for tile in (1024, 288))
    assert whole.std() > 3
    assert np.array_equal(whole, tiled)
