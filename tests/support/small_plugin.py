"""Source of a third party's distribution with a small U-Net of two levels and a few techniques."""

PLUGIN = """
from dataclasses import dataclass
import torch
from torch import nn
from zoo.architectures.unet import UNetArchitecture
from zoo.architectures.unet_module import DoubleConv
from zoo.contracts import InputSpec, LossTerm, Phase, Technique


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = DoubleConv(4, 16, (False, False))
        self.pool = nn.MaxPool2d(2)
        self.bottom = DoubleConv(16, 64, (False, False))
        self.up1 = nn.ConvTranspose2d(64, 16, 2, stride=2)
        self.join1 = DoubleConv(32, 16, (False, False))
        self.head = nn.Conv2d(16, 12, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        skip = self.down1(x)
        x = self.up1(self.bottom(self.pool(skip)))
        return self.shuffle(self.head(self.join1(torch.cat([x, skip], dim=1))))


class Small(UNetArchitecture):
    contract = 1
    id = "small-unet"
    input = InputSpec("packed-raw", 4, 16, (32, 32), mosaic="bayer", white_balance=True)

    def build(self):
        return Net()

    def stages(self):
        return ({"down": "down1", "up": "up1", "join": "join1"}, {"down": "bottom"})


@dataclass(frozen=True)
class Config:
    strength: float = 1.0


class Base(Technique):
    contract = 1
    summary = "for a test"
    phase = Phase.STRUCTURE
    Config = Config


class Idle(Base):
    id = "idle"


class Masks(Base):
    id = "masks"

    def rewrite(self, model, context):
        with torch.no_grad():
            model.bottom.conv1.weight[::2] = 0
        return model


class Shrinks(Base):
    id = "shrinks-output"

    def rewrite(self, model, context):
        return nn.Sequential(model, nn.AvgPool2d(2))


class Spoils(Base):
    id = "spoils"

    def rewrite(self, model, context):
        model.head = nn.Sequential(nn.Conv2d(16, 1, 1), nn.Conv2d(1, 12, 1))
        return model


class Pulls(Base):
    id = "pulls"
    phase = Phase.TRAINING

    def objective(self, context):
        return [LossTerm("size", self.config.strength, lambda i, o, t, m: m.head.weight.square().sum())]


class Adds(Base):
    id = "adds"

    def rewrite(self, model, context):
        model.head = nn.Sequential(nn.Conv2d(16, 512, 1), nn.Conv2d(512, 12, 1))
        return model
"""


TECHNIQUES = {
    "idle": "Idle",
    "masks": "Masks",
    "shrinks-output": "Shrinks",
    "spoils": "Spoils",
    "pulls": "Pulls",
    "adds": "Adds",
}
