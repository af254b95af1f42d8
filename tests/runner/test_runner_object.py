"""The runner from Python: one object that owns decoder, memory plan and network, and makes what `zoo run` makes."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from support import tiny
from support.dngs import dng, frame
from zoo.artifacts import Artifact
from zoo.errors import InputError, UnknownIdError, UsageError
from zoo.runner.api import load, run
from zoo.runner.budget import footprint
from zoo.runner.development import reserve_for
from zoo.runner.runner import open_runner
from zoo.runner.settings import Settings
from zoo_cli.main import main

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def shots(tmp_path: Path) -> list[Path]:
    """Three RAW files; the second is turned."""
    paths = [tmp_path / f"{name}.dng" for name in "abc"]
    for number, path in enumerate(paths):
        mosaic = np.random.default_rng(number).integers(490, 4000, (80, 96 + 2 * number))
        path.write_bytes(dng(frame(mosaic=mosaic, flip=6 if number == 1 else 0)))
    return paths


@pytest.fixture
def pictures(bayer: Artifact, shots: list[Path], tmp_path: Path) -> dict[str, np.ndarray]:
    """What `zoo run` makes of them."""
    out = tmp_path / "by-command"
    assert main(["run", str(bayer.path), *map(str, shots), "-o", str(out)]) == 0
    return {shot.stem: np.asarray(Image.open(out / f"{shot.stem}.png")) for shot in shots}


def test_run_makes_the_pictures_of_the_command(
    bayer: Artifact, shots: list[Path], pictures: dict[str, np.ndarray], tmp_path: Path
) -> None:
    results = run(bayer.path, shots, tmp_path / "out", memory="300MB")
    assert [result.error for result in results] == [None] * 3
    for result in results:
        assert result.output is not None
        assert np.array_equal(np.asarray(Image.open(result.output)), pictures[result.path.stem])
    with pytest.raises(UsageError, match="exist already"):
        run(bayer, shots, tmp_path / "out")


def test_a_file_becomes_an_array_or_a_picture_file(
    bayer: Artifact, shots: list[Path], pictures: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with load(bayer) as runner:
        for shot in (*shots, shots[0]):
            picture = runner.develop(shot)
            assert picture.dtype == np.uint8
            assert np.array_equal(picture, pictures[shot.stem])
        result = runner.develop(shots[0], tmp_path / "one.png")
        assert result.size == pictures["a"].shape[1::-1]
        assert np.array_equal(np.asarray(Image.open(tmp_path / "one.png")), pictures["a"])
        with pytest.raises(UsageError, match=r"must end in \.png"):
            runner.develop(shots[0], tmp_path / "one.tiff")
        with pytest.raises(InputError, match="does not exist"):
            runner.develop(tmp_path / "none.dng")
    with load(bayer, format="tiff") as runner:
        runner.develop(shots[0], tmp_path / "one.tif")
        picture = runner.develop(shots[0])
        assert picture.dtype == np.uint16
        assert np.array_equal(tifffile.imread(tmp_path / "one.tif"), picture)


def test_calling_it_computes_the_network(bayer: Artifact) -> None:
    inputs = np.random.default_rng(0).random((2, 4, 32, 48), dtype=np.float32)
    with load(bayer) as runner:
        outputs = runner(inputs)
        assert outputs.shape == (2, 3, 64, 96)
        assert np.allclose(outputs, tiny.run(bayer.read("model.onnx"), inputs), atol=1e-5)
        for shape in ((4, 32, 48), (1, 3, 32, 48), (1, 4, 31, 48), (0, 4, 32, 32)):
            with pytest.raises(UsageError, match=r"\(N, 4, H, W\) is needed, H and W multiples of 2"):
                runner(np.zeros(shape, np.float32))


def test_a_classifier_gives_classes_and_no_picture(tmp_path: Path) -> None:
    artifact = tiny.classifier_artifact(tmp_path / "classifier")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    with load(artifact) as runner:
        (result,) = runner.run([tmp_path / "photo.png"])
        assert result.top is not None
        assert len(result.top) == 5
        with pytest.raises(UsageError, match="classifier"):
            runner.develop(tmp_path / "photo.png")


def test_a_closed_runner_is_refused_and_nothing_of_it_is_left(bayer: Artifact, shots: list[Path]) -> None:
    before = threading.active_count()
    with open_runner(bayer, settings=Settings(), files=shots) as runner:
        runner.develop(shots[0])
    assert threading.active_count() == before
    for use in (lambda: runner.run(shots, "out"), lambda: runner.develop(shots[0])):
        with pytest.raises(UsageError, match="closed"):
            use()
    with pytest.raises(UnknownIdError):
        open_runner("no-such-net", files=shots)
    assert threading.active_count() == before


def test_the_engine_sets_aside_what_the_files_need(bayer: Artifact, shots: list[Path]) -> None:
    need, memory = footprint(bayer), 300 << 20
    for_files, for_any = reserve_for(need, shots, memory), reserve_for(need, [], memory)
    assert 0 < for_files < for_any
    assert for_any == need.reserve(need.most_pixels(memory))
