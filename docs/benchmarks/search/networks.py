"""The networks that are searched, with the options of `zoo apply` that they need."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))

from nets import IMAGENET_MEAN, IMAGENET_STD

from zoo.architectures.cifar_resnet_module import CifarResNet

#: What the factory below says of its input.
MEAN, STD = IMAGENET_MEAN, IMAGENET_STD


def resnet20() -> CifarResNet:
    """ResNet-20 for CIFAR-10."""
    return CifarResNet(10)


@dataclass(frozen=True)
class Searched:
    """A network and how it is searched.

    Attributes:
        architecture: Its name, as `zoo apply` takes it.
        space: The recipes to choose from.
        mixed: A recipe for each average width, "{}" in its place.
        uniform: What mixed widths are held against.
        options: Of `zoo apply`, as a folder of a search keeps them.
    """

    architecture: str
    space: str
    mixed: str
    uniform: str
    options: dict[str, Any]


def searched(data: Path | None) -> dict[str, Searched]:
    """The networks by name; those that need data only where its folder is given."""
    found = {
        "lighter-unet": Searched(
            "lighter-unet",
            "stage-prune?+low-rank(ratio=0.4..0.8:0.1)?+channel-prune(ratio=0.1..0.4:0.1)?"
            "+{ptq,qat,qat(mixed=3..5),fixed-point}?",
            "qat(mixed={})", "qat", {"images": 2, "threads": 1},
        )
    }  # fmt: skip
    if data is not None:
        found["resnet20"] = Searched(
            f"{Path(__file__).resolve()}:resnet20",
            "low-rank(ratio=0.4..0.8:0.1)?+channel-prune(ratio=0.1..0.4:0.1)?"
            "+{ptq(observer=minmax),qat,qat(mixed=2.5..5),fixed-point}?",
            "qat(mixed={})", "qat",
            {
                "input": "rgb:3x32x32", "output": "logits:10", "data": f"folder(root={data / 'cifar10'})",
                "weights": str(data / "trained/resnet20-cifar10.th"), "batch": 32, "threads": 1,
            },
        )  # fmt: skip
    return found
