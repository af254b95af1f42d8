"""Recipes on networks whose inputs are wider than high: crops, calibration, golden inputs, recipe files."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from support.sample_plugins import Dots
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.data.folder import Folder
from zoo.data.random_crops import random_window
from zoo.errors import UsageError
from zoo.pipeline.input_spec import check_crops, choose_crop
from zoo.plugins import dataset


class Wide(Architecture):
    id, summary = "wide", "a network of wide inputs"

    def __init__(self, kind: str = "logits", *, fixed: bool = True) -> None:
        super().__init__()
        self.task = "classification" if kind == "logits" else "segmentation"
        self.input = InputSpec("gray", 1, example=(16, 40), fixed_size=fixed, multiple_of=4)
        self.output = OutputSpec("logits", 2) if kind == "logits" else OutputSpec("mask", 1, scale=1)


def test_crops_are_of_the_examples_size_where_the_network_takes_no_other() -> None:
    assert choose_crop(Wide(), 0) == choose_crop(Wide("mask"), 0) == (16, 40)
    assert choose_crop(Wide(fixed=False), 0) == (16, 40)  # whole images, as it is evaluated on
    assert choose_crop(Wide("mask", fixed=False), 0) == 16
    assert choose_crop(Wide(fixed=False), 32) == 32
    for side in (16, 40):
        with pytest.raises(UsageError, match="40x16 input, so the crop size cannot be"):
            choose_crop(Wide(), side)


def test_data_that_only_knows_squares_is_refused_by_name() -> None:
    check_crops(Dots(), Wide("mask", fixed=False), 16)
    with pytest.raises(UsageError, match="40x16 input, but the data 'dots' only yields squares"):
        check_crops(Dots(), Wide("mask"), (16, 40))


def test_windows_that_are_no_squares_keep_their_sides() -> None:
    stored = zoo.contracts.Sample(
        "a", "a", np.zeros((1, 60, 60), np.float32), np.zeros((1, 120, 120), np.float32)
    )
    for number in range(8):
        window = random_window(stored, (16, 40), 2, 4, number, np.random.default_rng(number))
        assert (window.inputs.shape, window.target.shape) == ((1, 16, 40), (1, 32, 80))


def test_simulated_raw_files_may_be_wider_than_high() -> None:
    wide = Wide()
    wide.input = InputSpec("packed-raw", 4, example=(16, 40), mosaic="bayer", white_balance=True)
    wide.output = OutputSpec("rgb", 3, scale=2)
    for sample in islice(dataset("darkroom").crops(wide, (16, 40), 0), 2):
        assert (sample.inputs.shape, sample.target.shape) == ((4, 16, 40), (3, 32, 80))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 8 * 20, 2),
    )  # fmt: skip


def test_a_module_with_a_fixed_wide_input_is_trained_and_exported(tmp_path: Path) -> None:
    images = torch.rand(24, 1, 16, 40)
    data = images, (images[..., :20].sum((1, 2, 3)) > images[..., 20:].sum((1, 2, 3))).long()
    options = {"data": data, "max_loss": None, "batch": 4}
    first = zoo.apply(net(), "qat", out=tmp_path / "a", steps=3, **options)
    record = json.loads((first.artifact / "metrics.json").read_text())
    assert record["training"]["crop"] == [16, 40]
    with zoo.load(first.artifact) as compressed:
        assert compressed(images[:1].numpy()).shape == (1, 2)
    again = zoo.apply(net(), first.artifact / "recipe.toml", out=tmp_path / "b", data=data, max_loss=None)
    assert (again.artifact / "model.onnx").read_bytes() == (first.artifact / "model.onnx").read_bytes()


@pytest.mark.parametrize("fixed", [True, False])
def test_class_folders_are_cut_to_wide_inputs(fixed: bool, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(6):
            Image.fromarray(rng.integers(0, 256, (30, 50), dtype=np.uint8)).save(
                tmp_path / label / f"{number}.png"
            )
    data = Folder(Folder.Config(root=tmp_path))
    size = choose_crop(Wide(fixed=fixed), 0)
    for stream in (data.crops, data.calibration):
        assert [sample.inputs.shape for sample in islice(stream(Wide(fixed=fixed), size, 0), 4)] == [
            (1, 16, 40)
        ] * 4
