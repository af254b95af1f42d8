"""ResNet-110 for CIFAR-10, to be named as docs/benchmarks/anytime/resnet110.py:net, and weights for it to start from.

    python docs/benchmarks/anytime/resnet110.py resnet20-cifar10.th deep.safetensors

The weights compute exactly what the published ResNet-20 does: its three blocks are the first of each stage, and the 15
behind them add nothing at first (Chen et al., "Net2Net", ICLR 2016, section 2.3). Training fills them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))

from nets import IMAGENET_MEAN, IMAGENET_STD

from zoo.architectures.cifar_resnet_module import BLOCKS, WIDTHS, BasicBlock, CifarResNet

INPUT = "rgb:3x32x32"
OUTPUT = "logits:10"
MEAN, STD = IMAGENET_MEAN, IMAGENET_STD
_DEEP = 18


def net() -> nn.Module:
    """Return the network; blocks that ResNet-20 has not are the identity until they are trained."""
    network = CifarResNet(10)
    for stage, width in zip((network.layer1, network.layer2, network.layer3), WIDTHS, strict=True):
        for _ in range(_DEEP - BLOCKS):
            block = BasicBlock(width, width, 1)
            nn.init.kaiming_normal_(block.conv1.weight)
            nn.init.kaiming_normal_(block.conv2.weight)
            nn.init.zeros_(block.bn2.weight)
            stage.append(block)
    return network


def main() -> None:
    """Write the weights, after checking that they compute what those of ResNet-20 do."""
    source, target = sys.argv[1:]
    published = torch.load(source, "cpu", weights_only=True)["state_dict"]
    weights = {name.removeprefix("module."): value for name, value in published.items()}
    torch.manual_seed(0)
    shallow, deep, images = CifarResNet(10).eval(), net().eval(), torch.randn(8, 3, 32, 32)
    shallow.load_state_dict(weights)
    deep.load_state_dict(weights, strict=False)
    with torch.no_grad():
        assert torch.equal(shallow(images), deep(images))
    save_file(deep.state_dict(), target)


if __name__ == "__main__":
    main()
