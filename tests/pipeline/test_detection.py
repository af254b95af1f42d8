"""Detectors are trained on labelled boxes by the task's loss or by one that their file states."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo
from support.boxed_images import write_coco
from zoo.errors import UsageError

FILE = """
import torch
from torch import nn

INPUT, OUTPUT = "rgb:3x32x32", "boxes:3"
SEEN = []


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 8, stride=8), nn.Conv2d(8, 7, 1)

    def forward(self, x):
        raw = self.head(self.body(x).relu()).flatten(2).transpose(1, 2)
        score, label = raw[..., 4:].sigmoid().max(-1)
        centre, sides = raw[..., :2].sigmoid() * 32, raw[..., 2:4].exp() * 4
        return torch.cat([centre - sides, centre + sides, score[..., None], label[..., None].float()], -1)


class Fixed(Head):
    def forward(self, x):
        return super().forward(x).detach()
"""
LOSS = """

def LOSS(outputs, targets):
    assert outputs.shape[2] == 6 and targets.shape[2] == 5
    SEEN.append(targets.shape)
    return outputs[..., 4].mean()
"""


def test_a_detector_is_trained_by_the_loss_of_its_file_and_measured_by_its_boxes(tmp_path: Path) -> None:
    write_coco(tmp_path / "data")
    (tmp_path / "net.py").write_text(FILE + LOSS)
    result = zoo.apply(
        f"{tmp_path}/net.py:Head", None, data=f"coco(root={tmp_path}/data)", steps=2, max_loss=None,
        out=tmp_path / "out",
    )  # fmt: skip
    assert result.trainings[0].losses
    assert set(result.metrics) >= {"map", "map50"}


def test_boxes_without_a_gradient_need_a_loss_of_their_own(tmp_path: Path) -> None:
    write_coco(tmp_path / "data")
    (tmp_path / "net.py").write_text(FILE)
    with pytest.raises(UsageError, match="carries no gradient") as refused:
        zoo.apply(
            f"{tmp_path}/net.py:Fixed", None, data=f"coco(root={tmp_path}/data)", steps=2, max_loss=None,
            out=tmp_path / "out",
        )  # fmt: skip
    assert "LOSS" in str(refused.value.hint)
