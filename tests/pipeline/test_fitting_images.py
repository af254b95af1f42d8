"""How many images layers are fitted on, and that as many arrive as were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from support.class_folders import Classifier, write_classes
from zoo.contracts import InputSpec, SilentReporter, Teacher
from zoo.data.folder import Folder, FolderConfig
from zoo.pipeline.fitting_images import images_to_fit
from zoo.pipeline.stage_runner import StageRunner
from zoo.pipeline.stages import StagePlan, stages_of
from zoo.surgery.reconstruction import fitting_batches
from zoo.training.schedule import Budget

RGB = InputSpec("rgb", 3, example=(32, 32))


def net(stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride, padding=1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Flatten()
    )


def test_small_feature_maps_ask_for_more_images() -> None:
    example = torch.rand(1, 3, 32, 32)
    counts = [images_to_fit(net(stride), RGB, example) for stride in (1, 2, 4, 32)]
    assert counts == [16, 64, 256, 512]


def test_what_a_pass_may_cost_limits_them() -> None:
    large = torch.rand(1, 3, 512, 512)
    assert images_to_fit(net(128), RGB, large) == (1 << 27) // (4 * 3 * 512 * 512)
    dear = nn.Sequential(
        nn.Conv2d(3, 32, 11, padding=5), nn.Conv2d(32, 32, 11, padding=5), nn.Conv2d(32, 4, 3, 16, 1)
    )
    macs = (3 + 32) * 32 * 121 * 128 * 128 + 32 * 4 * 9 * 64
    assert images_to_fit(dear, RGB, large[..., :128, :128]) == int(4e11 / macs)


def test_networks_for_raw_files_keep_their_number() -> None:
    spec = InputSpec("packed-raw", 4, mosaic="bayer", example=(32, 32))
    assert images_to_fit(nn.Conv2d(4, 4, 3, 8), spec, torch.rand(1, 4, 32, 32)) == 16


def no_teacher(name: str) -> Teacher:
    raise AssertionError(f"{name} is not needed")


@pytest.mark.parametrize("batch", [4, 32])
def test_as_many_images_arrive_as_were_asked_for_whatever_the_batch(tmp_path: Path, batch: int) -> None:
    write_classes(tmp_path)
    architecture = Classifier(3)
    data = Folder(FolderConfig(root=str(tmp_path)))
    plan = StagePlan(
        architecture, stages_of(()), data, (Budget(steps=1),), batch, 32, 1e-4, "auto", 0, no_teacher, "", ("",),
    )  # fmt: skip
    context = StageRunner(plan, net(4), SilentReporter(), tmp_path).context
    for images in (1, 40, 100):
        assert sum(len(each) for each in fitting_batches(context, True, images)) == images
    assert context.fitting_images == 256
    assert sum(len(each) for each in fitting_batches(context, True, None)) == 256
    assert context.calibration is not None
    assert sum(len(each) for each in context.calibration()) == 512, (
        "as many pixels as crops of larger images have"
    )
