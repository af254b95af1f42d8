"""Networks that `zoo train` trained from random weights: cells of ISBI 2012, and a network of timm on CIFAR-10.

    zoo train thin-unet --data 'masks(root=DIR/isbi2012)' --minutes 9 --out WEIGHTS/thin-unet
    zoo train 'timm:resnet10t(classes=10,size=32)' --data 'folder(root=DIR/cifar10)' --minutes 12 --batch 32 \
        --learning-rate 1e-3 --out WEIGHTS/timm-resnet10t
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from reference import Floats, Reference, right_class
from torch import nn

from zoo import plugins
from zoo.contracts import Dataset
from zoo.data.calibration import calibration_crops
from zoo.data.folder import Folder, FolderConfig
from zoo.data.masks import Masks, MasksConfig
from zoo.tasks.mask_scores import compare_masks
from zoo.training.weights import load_start


@dataclass(frozen=True)
class _Trained:
    """One network: its name for zoo, its folder, its data, and how it is calibrated and scored."""

    named: str
    data: Callable[[Path], Dataset]
    crop: int
    calibrated: int
    rate: Callable[[Floats, Any], float]
    unit: str


_NETWORKS = {
    "thin-unet": _Trained(
        "thin-unet", lambda data: Masks(MasksConfig(root=str(data / "isbi2012"))), 256, 16,
        lambda mask, target: 100 * compare_masks(mask, target)["iou"], "% IoU",
    ),
    "timm-resnet10t": _Trained(
        "timm:resnet10t(classes=10,size=32)", lambda data: Folder(FolderConfig(root=str(data / "cifar10"))), 32, 100,
        right_class, "%",
    ),
}  # fmt: skip


def trained_by_zoo(data: Path, weights: Path) -> dict[str, Reference]:
    """Return the networks that are there, by id.

    Args:
        data: The folder with `isbi2012` and `cifar10`.
        weights: The folder with the artifacts that training wrote.
    """
    return {
        name: _reference(name, each, each.data(data), weights / name)
        for name, each in _NETWORKS.items()
        if (weights / name).is_dir()
    }


def _reference(name: str, trained: _Trained, dataset: Dataset, artifact: Path) -> Reference:
    architecture = plugins.architecture(trained.named)

    def build() -> nn.Module:
        net = architecture.build().eval()
        load_start(net, architecture, str(artifact))
        return net

    def calibration() -> list[Floats]:
        return [
            each.inputs
            for each in calibration_crops(dataset, architecture, trained.crop, 0, trained.calibrated)
        ]

    def test() -> list[tuple[Floats, Any]]:
        frames = islice(dataset.frames(architecture, "test"), 2000)
        return [(each.inputs, each.target if np.ndim(each.target) else int(each.target)) for each in frames]

    timed = (trained.crop, trained.crop)
    return Reference(
        name, architecture.input, architecture.output, build, calibration, test, trained.rate, trained.unit, timed,
        architecture.task,
    )  # fmt: skip
