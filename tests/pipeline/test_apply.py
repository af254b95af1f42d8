"""`zoo apply` from a recipe to an artifact, on a small net that a third party brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.interrupts import StopsAt
from support.small_net import request, run
from zoo import plugins
from zoo.artifacts.artifact import open_artifact
from zoo.artifacts.golden import check_golden
from zoo.contracts import SilentReporter
from zoo.errors import LegalityError, NoEffectError, OutputError, UnknownIdError, UsageError
from zoo.pipeline.api import apply, apply_request
from zoo.pipeline.result import Result
from zoo.training.schedule import Budget

pytestmark = pytest.mark.usefixtures("third_party")


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> Result:
    return run("depthwise+qat", tmp_path_factory.mktemp("apply") / "small")


def test_two_techniques_compose_into_an_artifact_that_verifies(compressed: Result) -> None:
    artifact = open_artifact(compressed.artifact)
    artifact.verify()
    assert artifact.manifest.recipe.startswith("depthwise(")
    assert artifact.manifest.precision == "int8"
    assert {"model.onnx", "model.safetensors", "golden.safetensors", "recipe.toml"} <= set(
        artifact.manifest.files
    )


def test_each_stage_pays_in_the_exported_file(compressed: Result) -> None:
    before, separable, quantized = compressed.files
    assert separable.parameters < before.parameters
    assert separable.macs < before.macs
    assert quantized.macs == separable.macs
    assert quantized.file_bytes < separable.file_bytes


def test_every_convolution_but_the_last_runs_in_int8(compressed: Result) -> None:
    metrics = open_artifact(compressed.artifact).metrics()
    assert len(metrics["int8"]["float_layers"]) == 1
    assert metrics["int8"]["share"] > 0.9


def test_the_engine_gives_the_golden_outputs(compressed: Result) -> None:
    artifact = open_artifact(compressed.artifact)
    session = plugins.engine("onnxruntime").open(artifact.read("model.onnx"))
    psnr = check_golden(session, artifact, "onnxruntime")
    assert psnr is not None
    assert psnr > 30


def test_the_recipe_file_makes_the_same_bytes_again(compressed: Result, tmp_path: Path) -> None:
    outcome = apply(None, compressed.artifact / "recipe.toml", out=tmp_path / "again", images=1)
    for name in ("model.onnx", "model.safetensors", "golden.safetensors"):
        assert (outcome.artifact / name).read_bytes() == (compressed.artifact / name).read_bytes(), name


def test_the_sample_picture_shows_four_panels(compressed: Result) -> None:
    with Image.open(compressed.artifact / "sample.png") as picture:
        assert picture.size == (4 * 320, 320)
        assert len(np.unique(np.asarray(picture))) > 50


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> Result:
    """The small net, trained long enough to have something to lose."""
    out = tmp_path_factory.mktemp("trained") / "whole"
    return run(None, out, budgets=(Budget(steps=80),), command="zoo train small-unet --steps 80")


@pytest.fixture(scope="module")
def continued(trained: Result, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What becomes of the trained net without further steps."""
    out = tmp_path_factory.mktemp("continued") / "whole"
    return run("qat", out, weights=str(trained.artifact), budgets=(Budget(steps=0),))


def test_the_card_states_data_steps_and_command(trained: Result) -> None:
    card = (trained.artifact / "README.md").read_text()
    for text in ("zoo train small-unet --steps 80", "darkroom", "steps: 80", "PSNR"):
        assert text in card


def test_training_from_an_artifact_starts_where_it_ended(trained: Result, continued: Result) -> None:
    assert continued.files[0].psnr == pytest.approx(trained.files[-1].psnr, abs=0.05)
    assert continued.start.trained


def test_a_runner_only_artifact_of_half_the_size_still_holds_weights_to_start_from(
    trained: Result, continued: Result, tmp_path: Path
) -> None:
    half = run(None, tmp_path / "half", budgets=(Budget(steps=80),), half_weights=True, runner_only=True)
    assert not (half.artifact / "model.safetensors").exists()
    sizes = [(outcome.artifact / "model.onnx").stat().st_size for outcome in (trained, half)]
    assert sizes[1] < 0.6 * sizes[0]
    from_half = run("qat", tmp_path / "from-half", weights=str(half.artifact), budgets=(Budget(steps=0),))
    assert from_half.start.trained
    assert from_half.files[0].psnr == pytest.approx(continued.files[0].psnr, abs=0.01)


def test_weights_of_another_net_are_refused(compressed: Result, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        run("qat", tmp_path / "out", weights=str(compressed.artifact))
    with pytest.raises(UnknownIdError, match="no-such"):
        run("qat", tmp_path / "out", weights="no-such")


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ("idle", "idle changed nothing"),
        ("masks", "masks only wrote zeros"),
        ("shrinks-output", "shrinks-output changed the shape"),
        ("adds", "adds saved nothing"),
    ],
)
def test_a_stage_without_honest_effect_fails_by_name(recipe: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(NoEffectError, match=text):
        run(recipe, tmp_path / "out", budgets=(Budget(steps=0),))
    assert not (tmp_path / "out").exists()


def test_a_stage_that_loses_more_quality_than_the_budget_fails_by_name(
    trained: Result, tmp_path: Path
) -> None:
    options = {"weights": str(trained.artifact), "budgets": (Budget(steps=0),)}
    with pytest.raises(NoEffectError, match=r"spoils lost .* dB"):
        run("spoils", tmp_path / "out", max_loss=0.5, **options)
    assert run("spoils", tmp_path / "out", max_loss=None, **options).artifact.is_dir()


def test_a_training_technique_needs_no_smaller_file(tmp_path: Path) -> None:
    outcome = run("pulls(strength=0.1)", tmp_path / "out")
    assert outcome.files[-1].parameters == outcome.files[0].parameters


def test_an_illegal_order_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(LegalityError, match=r"did you mean depthwise\+qat"):
        run("qat+depthwise", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(OutputError, match="out"):
        run("qat", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"


def test_a_run_that_is_interrupted_twice_goes_on_and_ends_the_same(
    compressed: Result, tmp_path: Path
) -> None:
    wanted = request("depthwise+qat", tmp_path / "out", budgets=(Budget(steps=6),))
    for task in ("train depthwise", "train qat"):
        with pytest.raises(KeyboardInterrupt):
            apply_request(wanted, StopsAt(task))
        assert not (tmp_path / "out").exists()
        assert (tmp_path / "out.work").is_dir()
    outcome = apply_request(wanted, SilentReporter())
    assert outcome is not None
    assert not (tmp_path / "out.work").exists()
    assert (outcome.artifact / "model.onnx").read_bytes() == (compressed.artifact / "model.onnx").read_bytes()


def test_a_crop_the_net_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        run("qat", tmp_path / "out", crop=30)


def test_data_for_another_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="photos provides RGB images"):
        run("qat", tmp_path / "out", data="photos")


def test_budgets_must_match_the_number_of_trainings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trains 2 times"):
        run("depthwise+qat", tmp_path / "out", budgets=(Budget(steps=1),) * 3)


def test_two_processes_reach_the_loss_of_one(compressed: Result, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines",
        "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        "-m", "zoo_cli", "apply", "depthwise+qat", "small-unet", "--steps", "6", "--batch", "2", "--crop", "32",
        "--precision", "float32", "--images", "1", "--out", "two", "--json",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    made = (compressed.artifact, tmp_path / "two")
    one, two = (json.loads((artifact / "metrics.json").read_text()) for artifact in made)
    assert len(one["losses"]) == 2
    for ours, theirs in zip(one["losses"], two["losses"], strict=True):
        assert [step for step, _ in theirs] == [step for step, _ in ours]
        assert [loss for _, loss in theirs] == pytest.approx([loss for _, loss in ours], rel=1e-4)
