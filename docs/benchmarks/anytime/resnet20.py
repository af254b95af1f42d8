"""ResNet-20 for CIFAR-10, to be named as docs/benchmarks/anytime/resnet20.py:net."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))

from nets import IMAGENET_MEAN, IMAGENET_STD

from zoo.architectures.cifar_resnet_module import CifarResNet

INPUT = "rgb:3x32x32"
OUTPUT = "logits:10"
MEAN, STD = IMAGENET_MEAN, IMAGENET_STD


def net() -> nn.Module:
    """Return the network with random weights; --weights resnet20-cifar10.th puts the published ones in."""
    return CifarResNet(10)
