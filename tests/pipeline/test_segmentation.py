"""Nets that give masks, from training to the artifact and its measures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

from support.mask_folders import label, picture
from zoo import plugins
from zoo.artifacts.artifact import open_artifact
from zoo.contracts import OutputSpec, SilentReporter
from zoo.errors import NoEffectError
from zoo.evaluation.evaluator import evaluate_artifact
from zoo.images.writing import write_picture
from zoo.pipeline.api import apply_request
from zoo.pipeline.request import ApplyRequest
from zoo.pipeline.result import Result
from zoo.recipes.grammar import parse
from zoo.tasks.losses import binary_cross_entropy, exact_sigmoids, following_loss
from zoo.tasks.mask_scores import compare_masks
from zoo.training.schedule import Budget
from zoo_cli.main import main

# ------------------------------------------------------------------------------------------------- measures


def test_dice_and_iou_by_hand() -> None:
    found = np.array([[[0.9, 0.6, 0.4, 0.1]]], dtype=np.float32)
    wanted = np.array([[[1, 0, 1, 0]]], dtype=np.float32)
    assert compare_masks(found, wanted) == {
        "dice": pytest.approx(2 * 1 / (2 + 2)),
        "iou": pytest.approx(1 / 3),
    }


def test_a_class_that_is_neither_there_nor_found_counts_as_found() -> None:
    nothing = np.zeros((1, 2, 2), np.float32)
    assert compare_masks(nothing, nothing) == {"dice": 1.0, "iou": 1.0}
    assert compare_masks(nothing + 1, nothing) == {"dice": 0.0, "iou": 0.0}
    two = np.concatenate([nothing, nothing + 1])
    assert compare_masks(two, np.zeros_like(two)) == {"dice": 0.5, "iou": 0.5}, "the mean over the channels"


# ----------------------------------------------------------------------------------------------------- loss


def test_masks_are_trained_by_cross_entropy_and_pictures_by_l1() -> None:
    p, t = torch.tensor([0.9, 0.2]), torch.tensor([1.0, 0.0])
    by_hand = -(math.log(0.9) + math.log(0.8)) / 2
    assert float(following_loss(OutputSpec("mask", 1, 1))(p, t)) == pytest.approx(by_hand)
    assert float(binary_cross_entropy(p, t)) == pytest.approx(float(nn.functional.binary_cross_entropy(p, t)))
    assert float(following_loss(OutputSpec("rgb", 3, 2))(p, t)) == pytest.approx(0.15)


def test_the_loss_stays_finite_where_the_net_is_sure_and_wrong() -> None:
    p = torch.tensor([0.0, 1.0], requires_grad=True)
    loss = binary_cross_entropy(p, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(p.grad).all()


def test_a_sure_and_wrong_pixel_still_learns_in_bfloat16() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid())
    with torch.no_grad():
        net[0].weight.fill_(8.0)
        net[0].bias.zero_()
    mask = OutputSpec("mask", 1, 1)
    with exact_sigmoids(net, mask), torch.autocast("cpu", torch.bfloat16):
        loss = following_loss(mask)(net(torch.ones(1, 1, 1, 1)), torch.zeros(1, 1, 1, 1))
    loss.backward()
    assert float(net[0].weight.grad) == pytest.approx(1.0, abs=0.01), "the slope of the cross-entropy"
    assert not net[1]._forward_pre_hooks


# ----------------------------------------------------------------------------------------------- end to end


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("squares")
    for kind, make in (("images", picture), ("labels", label)):
        (root / kind).mkdir()
        for number in range(10):
            Image.fromarray(make(number)).save(root / kind / f"{number}.png")
    return root


def segment(recipe: str | None, out: Path, folder: Path, **options) -> Result:
    settings = {
        "architecture": "c-unet-plus",
        "budgets": (Budget(steps=250),),
        "data": f"masks(root={folder})",
        "batch": 4,
        "crop": 32,
        "precision": "float32",
        "learning_rate": 0.02,
        "weights": "none",
        **options,
    }
    result = apply_request(
        ApplyRequest(parse(recipe) if recipe else None, out=out, **settings), SilentReporter()
    )
    assert result is not None
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Result:
    return segment(None, tmp_path_factory.mktemp("segmentation") / "squares", folder)


def test_training_learns_the_squares(trained: Result) -> None:
    losses = [loss for _, loss in trained.trainings[0].losses]
    assert losses[-1] < 0.5 * losses[0]
    before, after = trained.files
    assert after.dice > 0.85
    assert after.dice > before.dice
    assert after.psnr is None


def test_the_artifact_states_dice_and_iou(trained: Result) -> None:
    artifact = open_artifact(trained.artifact)
    figures = {row["key"]: row["after"] for row in artifact.metrics()["figures"]}
    assert figures["dice"] == pytest.approx(trained.files[-1].dice, abs=1e-4)
    assert 0 < figures["iou"] < figures["dice"]
    card = (trained.artifact / "README.md").read_text()
    assert "image-segmentation" in card
    assert "| Dice |" in card
    with Image.open(trained.artifact / "sample.png") as shown:
        assert shown.size == (3 * 48, 48), "input, result and label"


def test_zoo_eval_measures_what_the_artifact_states(trained: Result, folder: Path, capsys) -> None:
    data = f"masks(root={folder})"
    result = evaluate_artifact(str(trained.artifact), reporter=SilentReporter(), data=data)
    assert result.quality.values["dice"] == pytest.approx(trained.files[-1].dice)
    assert result.seen == []
    assert main(["eval", str(trained.artifact), "--data", data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quality"]["dice"] == pytest.approx(
        trained.files[-1].dice, abs=1e-5
    )
    assert main(["eval", str(trained.artifact), "--data", data]) == 0
    assert "Dice" in capsys.readouterr().out


def test_points_of_dice_are_the_budget_of_a_stage(trained: Result, folder: Path, tmp_path: Path) -> None:
    options = {"budgets": (Budget(steps=0),), "max_loss": 0.01}
    with pytest.raises(
        NoEffectError, match=r"stage-prune lost \d+\.\d\d points of Dice \(0\.\d+ to 0\.\d+\)"
    ):
        segment("stage-prune", tmp_path / "out", folder, weights=str(trained.artifact), **options)
    assert not (tmp_path / "out").exists()


def test_a_net_that_was_never_trained_has_no_quality_to_lose(folder: Path, tmp_path: Path) -> None:
    options = {"budgets": (Budget(steps=0),), "max_loss": -1000.0}
    assert segment("depthwise", tmp_path / "out", folder, **options).artifact.is_dir()


def test_a_mask_net_is_quantized_and_still_finds_the_squares(
    trained: Result, folder: Path, tmp_path: Path
) -> None:
    options = {"weights": str(trained.artifact), "budgets": (Budget(steps=20),), "learning_rate": 1e-3}
    outcome = segment("qat", tmp_path / "out", folder, max_loss=10, **options)
    assert outcome.files[-1].dice > trained.files[-1].dice - 0.1
    assert open_artifact(outcome.artifact).manifest.precision == "int8"
    spec = plugins.architecture("c-unet-plus").input
    assert open_artifact(outcome.artifact).manifest.input == spec


def test_zoo_run_writes_the_mask_that_was_measured(trained: Result, folder: Path, tmp_path: Path) -> None:
    name = open_artifact(trained.artifact).metrics()["files"][-1]["quality"]["per_image"][0]
    source, out = folder / "images" / f"{name['name']}.png", tmp_path / "out"
    assert main(["run", str(trained.artifact), str(source), "-o", str(out)]) == 0
    with Image.open(out / source.name) as written:
        assert (written.mode, written.size) == ("L", (48, 48))
        mask = np.asarray(written)[None] / np.float32(255)
    wanted = label(int(name["name"]))[None] / np.float32(255)
    assert compare_masks(mask, wanted)["dice"] == pytest.approx(name["dice"], abs=1e-5)
    assert main(["run", str(trained.artifact), str(tmp_path), "-o", str(out)]) == 5


def test_several_masks_become_the_pages_of_a_tiff_file(tmp_path: Path) -> None:
    masks = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(3, 4, 2)
    write_picture(tmp_path / "masks.tiff", [masks[:1], masks[1:]], 4, 3, 2, "tiff")
    assert np.array_equal(tifffile.imread(tmp_path / "masks.tiff"), masks.transpose(2, 0, 1))
