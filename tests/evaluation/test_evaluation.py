"""Quality is measured on the exported file, image by image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.small_net import run
from zoo.contracts import SilentReporter
from zoo.data.picture_folders import split_of
from zoo.errors import InputError, UnknownIdError
from zoo.evaluation.evaluator import evaluate_artifact
from zoo.images.decibels import PSNR_CEILING, psnr
from zoo.runner.timing import measure_latency
from zoo.tasks.image_scores import compare_images

pytestmark = pytest.mark.usefixtures("third_party")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> Path:
    return run(None, tmp_path_factory.mktemp("evaluation") / "small").artifact


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((3, 32, 48), dtype=np.float32)


def test_psnr_of_a_known_error() -> None:
    assert psnr(0.01) == pytest.approx(20.0)
    assert psnr(0.0) == PSNR_CEILING


def test_a_picture_equals_itself_up_to_eight_bits() -> None:
    eight_bits = np.rint(noise(0) * 255).astype(np.float32) / np.float32(255)
    scores = compare_images(eight_bits, eight_bits)
    assert scores == {"psnr_db": PSNR_CEILING, "ssim": pytest.approx(1.0), "mse": 0.0}


def test_scores_are_those_of_scikit_image() -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    one, two = (np.rint(noise(seed) * 255).astype(np.uint8) for seed in (1, 2))
    scores = compare_images(one / np.float32(255), two / np.float32(255))
    assert scores["psnr_db"] == pytest.approx(peak_signal_noise_ratio(two, one), abs=1e-3)
    assert scores["ssim"] == pytest.approx(structural_similarity(one, two, channel_axis=0), abs=1e-3)


def test_an_artifact_scores_what_its_own_metrics_say(artifact: Path) -> None:
    result = evaluate_artifact(str(artifact), reporter=SilentReporter(), images=1)
    stated = json.loads((artifact / "metrics.json").read_text())["files"][-1]["quality"]
    assert result.to_json()["quality"]["psnr_db"] == pytest.approx(stated["psnr_db"], abs=1e-3)


def test_the_progress_shows_the_mean_of_the_images_so_far(artifact: Path) -> None:
    class Recorder(SilentReporter):
        figures: list[dict[str, Any]] = []  # noqa: RUF012

        def advance(self, amount: float = 1, **figures: Any) -> None:
            self.figures.append(figures)

    recorder = Recorder()
    quality = evaluate_artifact(str(artifact), reporter=recorder, images=2).to_json()["quality"]
    assert len(recorder.figures) == 2
    first = quality["per_image"][0]["psnr_db"]
    assert recorder.figures[0] == {"mean PSNR": pytest.approx(first, rel=1e-5)}
    assert recorder.figures[1] == {"mean PSNR": pytest.approx(quality["psnr_db"], rel=1e-5)}
    assert first != pytest.approx(quality["psnr_db"], rel=1e-5)


def test_scenes_seen_in_training_are_named(artifact: Path) -> None:
    result = evaluate_artifact(str(artifact), reporter=SilentReporter(), images=1, split="all")
    assert "coffee" in result.seen
    assert "astronaut" not in result.seen


def test_unknown_artifacts_and_empty_splits_are_refused(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownIdError, match="nowhere"):
        evaluate_artifact("nowhere", reporter=SilentReporter())
    Image.new("RGB", (128, 128)).save(tmp_path / "only.png")
    data = f"darkroom(photos={tmp_path},packaged=false)"
    empty = next(split for split in ("test", "val") if split != split_of("only"))
    with pytest.raises(InputError, match="no images"):
        evaluate_artifact(str(artifact), reporter=SilentReporter(), data=data, split=empty)


def peak_megabytes(artifact: Path, folder: Path) -> tuple[float, int]:
    program = (
        "import sys, resource\n"
        "from zoo_cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "eval", str(artifact), "--split", "all", "--json"]
    command += ["--data", f"darkroom(photos={folder},packaged=false)"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return float(done.stderr.splitlines()[-1]), json.loads(done.stdout)["quality"]["images"]


def test_peak_memory_is_the_same_for_10_and_80_images(artifact: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    peaks = []
    for count in (10, 80):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.bmp")
        peak, images = peak_megabytes(artifact, folder)
        assert images == count
        peaks.append(peak)
    # 70 more pictures of 256x256 would hold 147 MB as float32 inputs and targets
    assert peaks[1] - peaks[0] < 60


class Sleeper:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0

    def run(self, inputs: np.ndarray) -> np.ndarray:
        import time

        self.calls += 1
        time.sleep(self.seconds)
        return inputs


def test_latency_is_measured_in_turns_after_a_warm_up() -> None:
    slow, fast = Sleeper(0.2), Sleeper(0.01)
    found = measure_latency(
        {"slow": slow, "fast": fast}, np.zeros((1, 1, 1, 1), np.float32), rounds=5, warm_up=2
    )
    assert slow.calls == fast.calls == 7
    assert found["slow"].median > found["fast"].median
    assert found["slow"].low <= found["slow"].median <= found["slow"].high
