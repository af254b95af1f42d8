"""The loss of detectors leads to boxes, scores and classes that the mean average precision counts as right."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from support.boxed_images import Detector
from zoo.contracts import Sample
from zoo.tasks.box_loss import box_loss
from zoo.tasks.detection import DetectionTask
from zoo.training.feed import collate

WANTED = torch.tensor(
    [
        [[4.0, 6.0, 20.0, 30.0, 1.0], [30.0, 8.0, 60.0, 24.0, 0.0]],
        [[10.0, 40.0, 50.0, 60.0, 2.0], [0, 0, 0, 0, -1.0]],
    ]
)


def predicted(raw: Tensor) -> Tensor:
    """Return boxes around points of a grid with a class that is the best of three, as an anchor-free head does."""
    rows, columns = torch.meshgrid(torch.arange(8, 64, 16.0), torch.arange(8, 64, 16.0), indexing="ij")
    points = torch.stack([columns, rows], -1).reshape(-1, 2)
    sides = raw[..., :4].exp() * 8
    boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)
    score, label = raw[..., 4:].sigmoid().max(-1)
    return torch.cat([boxes, score[..., None], label[..., None].float()], -1)


def precision(raw: Tensor) -> float:
    scorer = DetectionTask().scorer(Detector().output)
    for found, wanted in zip(predicted(raw).detach().numpy(), WANTED.numpy(), strict=True):
        scorer.add(found, wanted[wanted[:, 4] >= 0])
    return dict(scorer.result())["map"]


def test_following_the_loss_finds_boxes_and_classes() -> None:
    raw = torch.randn(2, 16, 7, generator=torch.Generator().manual_seed(0)).mul_(0.1).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.1)
    before = precision(raw)
    for _ in range(150):
        optimizer.zero_grad()
        box_loss(predicted(raw), WANTED).backward()
        optimizer.step()
    assert before < 0.1 < 0.9 < precision(raw)


def test_images_without_boxes_only_lower_scores() -> None:
    nothing = torch.full((1, 3, 5), -1.0)
    found = torch.tensor(
        [[[0.0, 0.0, 9.0, 9.0, 0.5, 0.0], [0.0, 0.0, 9.0, 9.0, 0.1, 1.0]]], requires_grad=True
    )
    box_loss(found, nothing).backward()
    assert found.grad is not None
    assert (found.grad[..., 4] > 0).all()
    assert not found.grad[..., :4].any()
    assert box_loss(found[:, :0], nothing) == 0


def test_boxes_of_a_batch_are_filled_up_with_rows_of_no_class() -> None:
    image = np.zeros((3, 8, 8), np.float32)
    targets = [np.ones((count, 5), np.float32) for count in (2, 0, 1)]
    batch = collate([Sample("", "", image, target) for target in targets])
    assert batch.targets is not None
    assert batch.targets.shape == (3, 2, 5)
    assert (batch.targets[..., 4] == -1).sum() == 3
