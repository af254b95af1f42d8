"""A small residual network to try the techniques on."""

import torch
from torch import nn

from zoo.contracts import Architecture, InputSpec, OutputSpec


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.conv2, self.norm2 = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


class Classifier(Architecture):
    """Four residual blocks in two stages."""

    id = "classifier"
    summary = "a small residual network"
    task = "classification"
    input = InputSpec("rgb", 3, example=(16, 16), fixed_size=True)
    output = OutputSpec("logits", 6)

    def build(self) -> nn.Module:
        stem = nn.Conv2d(3, 8, 3, padding=1)
        down = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        first, second = nn.Sequential(Block(8), Block(8)), nn.Sequential(down, Block(16), Block(16))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 6))
        return nn.Sequential(stem, first, second, head).eval()
