"""Compress a network of your own, in a program of your own: a small classifier of handwritten digits.

The digits are the 1,797 images of 8 x 8 pixels that come with scikit-learn, so nothing is downloaded. Training takes
seconds, and so does compressing:

    python examples/own_model.py out/digits
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import zoo


class Digits(nn.Module):
    """Three convolutions and a linear layer; (N, 1, 8, 8) in [0, 1] to 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        )  # fmt: skip
        self.classes = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.features(x).mean((2, 3)))


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """Return the digits for training and for testing."""
    digits = load_digits()
    images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    return TensorDataset(images[:1400], labels[:1400]), TensorDataset(images[1400:], labels[1400:])


def train(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]], epochs: int) -> None:
    """Train a network as any program would."""
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()


def main(out: Path, epochs: int = 8, steps: tuple[int, int] = (150, 100)) -> None:
    """Train, compress, and run what comes of it."""
    torch.manual_seed(0)
    training, testing = load_data()
    loader = DataLoader(training, batch_size=32, shuffle=True)
    model = Digits()
    train(model, loader, epochs)

    result = zoo.apply(
        model,
        "channel-prune(ratio=0.3)+qat",
        data=loader,
        test=testing,
        loss=cross_entropy,
        steps=steps,
        batch=32,
        out=out,
    )
    print(result.table())
    top1 = result.metrics["top1"]
    print(f"top-1: {top1['before']:.1%} before, {top1['after']:.1%} after")

    # The artifact needs no PyTorch: this also runs on a board.
    with zoo.load(result.artifact) as net:
        images, labels = testing.tensors
        logits = net(images.numpy())
        right = (logits.argmax(1) == labels.numpy()).mean()
        print(f"{net.artifact.path} tells {right:.1%} of {len(images)} digits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "out", nargs="?", type=Path, default=Path("out/digits"), help="artifact folder to write"
    )
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    given = parser.parse_args()
    if given.quick:
        main(given.out, epochs=2, steps=(3, 3))
    else:
        main(given.out)
