"""The loss of detectors whose output is boxes with scores and classes, against labelled boxes.

Labels are assigned to the predictions that they cost least, as anchor-free detectors do (Ge et al., "YOLOX", 2021,
https://arxiv.org/abs/2107.08430, its section on SimOTA, in a simpler form), boxes are pulled by the generalized IoU
(Rezatofighi et al., 2019, https://arxiv.org/abs/1902.09630), and scores follow the IoU that a prediction reaches
(Zhang et al., "VarifocalNet", 2021, https://arxiv.org/abs/2008.13367).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: The class of rows of targets that hold no box.
UNUSED = -1
#: Predictions that one label is assigned to at most.
_ASSIGNED = 4
#: Scores nearer to 0 or 1 than this count as this far away.
_LEAST = 1e-6


def box_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss over images: 1 - GIoU of assigned boxes, and the cross-entropy of all scores.

    The score of a prediction that a label is assigned to should be the IoU that its box reaches, or 0 where its class
    is another; all others should be 0. Classes are whole numbers, which carry no gradient: they are learned through
    scores that depend on them.

    Args:
        outputs: (N, predictions, 6): x0, y0, x1, y1 in input pixels, the score in [0, 1], the class.
        targets: (N, most boxes, 5): x0, y0, x1, y1, the class, which is -1 in rows that are not used.
    """
    return torch.stack(
        [_of_image(found.float(), wanted.float()) for found, wanted in zip(outputs, targets, strict=True)]
    ).mean()


def _of_image(found: Tensor, wanted: Tensor) -> Tensor:
    wanted = wanted[wanted[:, 4] != UNUSED]
    boxes, scores = found[:, :4], found[:, 4].clamp(_LEAST, 1 - _LEAST)
    goals = torch.zeros_like(scores)
    if not len(wanted) or not len(found):
        return F.binary_cross_entropy(scores, goals, reduction="sum")
    chosen, label = _assigned(found.detach(), wanted)
    overlap, generalized = _overlaps(boxes[chosen], wanted[label, :4])
    right = found[chosen, 5].round() == wanted[label, 4]
    goals[chosen] = overlap.detach().clamp(0, 1) * right
    positive = max(1, len(chosen))
    return (1 - generalized).sum() / positive + F.binary_cross_entropy(
        scores, goals, reduction="sum"
    ) / positive


def _assigned(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The predictions (n,) that labels are assigned to, and the label of each, by overlap and distance.

    Args:
        found: (predictions, 6).
        wanted: (labels, 5).
    """
    _, generalized = _overlaps(found[:, None, :4], wanted[None, :, :4])
    centres, middles = (found[:, :2] + found[:, 2:4]) / 2, (wanted[:, :2] + wanted[:, 2:4]) / 2
    diagonal = (wanted[:, 2:4] - wanted[:, :2]).norm(dim=1).clamp(min=1.0)
    cost = (
        1
        - generalized
        + torch.cdist(centres, middles) / diagonal
        + (found[:, None, 5].round() != wanted[None, :, 4])
    )
    count = min(_ASSIGNED, max(1, len(found) // len(wanted)))
    allowed = torch.full_like(cost, torch.inf)
    nearest = cost.topk(count, dim=0, largest=False).indices
    allowed.scatter_(0, nearest, cost.gather(0, nearest))
    least, label = allowed.min(dim=1)
    chosen = least.isfinite().nonzero().flatten()
    return chosen, label[chosen]


def _overlaps(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """The IoU and the generalized IoU of boxes (..., 4), each with each where axes of length 1 say so."""
    first, second = (
        torch.maximum(ours[..., :2], theirs[..., :2]),
        torch.minimum(ours[..., 2:], theirs[..., 2:]),
    )
    shared = (second - first).clamp(min=0).prod(dim=-1)
    both = _area(ours) + _area(theirs) - shared
    outer = torch.maximum(ours[..., 2:], theirs[..., 2:]) - torch.minimum(ours[..., :2], theirs[..., :2])
    around = outer.clamp(min=0).prod(dim=-1).clamp(min=_LEAST)
    overlap = shared / both.clamp(min=_LEAST)
    return overlap, overlap - (around - both) / around


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)
