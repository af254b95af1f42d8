"""A convolutional network for one face, and two heads that read the features of several frames."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

#: Channels of the stages, each of which halves the sides; the last is the number of features of a frame.
WIDTHS = (16, 32, 64, 64)
_FEATURES = WIDTHS[-1]
_HIDDEN = 64
_ATTENTION_HEADS = 4
#: Subtracted from the scores of frames that do not count.
_NEVER = 1e4


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return two convolutions with batch norm and ReLU, the first with stride 2."""
    layers: list[nn.Module] = []
    for channels, stride in ((in_channels, 2), (out_channels, 1)):
        layers += [
            nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class EmotionCnn(nn.Module):
    """(N, 1, H, W) -> (N, classes).

    Args:
        classes: How many.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        before = (1, *WIDTHS[:-1])
        stages = [_stage(narrow, wide) for narrow, wide in zip(before, WIDTHS, strict=True)]
        self.features = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(_FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.features(x)))


class VideoNet(nn.Module):
    """Frames (N, T, 1, H, W) in [0, 1] and their number (N,), from 1 to T -> (N, classes).

    Args:
        features: (N, 1, H, W) -> (N, features).
        head: Features (N, T, features) and the numbers of frames (N,) -> (N, classes).
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, frames: Tensor, length: Tensor) -> Tensor:
        count = frames.shape[1]
        faces = (frames.flatten(0, 1) - 0.5) * 4.0
        features = self.features(faces)
        return cast(Tensor, self.head(features.view(-1, count, features.shape[-1]), length))


class LstmHead(nn.Module):
    """The state of an LSTM after the last frame that counts, and a classifier.

    The LSTM is written as linear layers, one for all inputs and one for the state: their weights become integers as
    those of any other layer. Gates stand in the order of torch: input, forget, cell, output.

    Args:
        frames: How many at most.
        classes: How many.
    """

    def __init__(self, frames: int, classes: int) -> None:
        super().__init__()
        self.input = nn.Linear(_FEATURES, 4 * _HIDDEN)
        self.state = nn.Linear(_HIDDEN, 4 * _HIDDEN, bias=False)
        self.classifier = nn.Linear(_HIDDEN, classes)
        self.frames = frames
        with torch.no_grad():
            # What is known is kept at first: Gers et al., "Learning to Forget", Neural Computation 2000.
            self.input.bias[_HIDDEN : 2 * _HIDDEN] = 1.0

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        gates = self.input(x)
        hidden = cell = torch.zeros_like(gates[:, 0, :_HIDDEN])
        for number in range(self.frames):
            total = gates[:, number] + self.state(hidden)
            enter, forget, candidate, leave = total.chunk(4, dim=1)
            new_cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
            new_hidden = leave.sigmoid() * new_cell.tanh()
            counts = (length > number).to(x.dtype)[:, None]
            cell = cell + counts * (new_cell - cell)
            hidden = hidden + counts * (new_hidden - hidden)
        return cast(Tensor, self.classifier(hidden))


class AttentionHead(nn.Module):
    """A class token that attends to the frames that count, twice, and a classifier.

    Args:
        frames: How many at most.
        classes: How many.
        layers: Transformer layers.
    """

    position: Tensor

    def __init__(self, frames: int, classes: int, layers: int = 2) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, _FEATURES) * 0.02)
        self.places = nn.Parameter(torch.randn(1, frames + 1, _FEATURES) * 0.02)
        self.layers = nn.ModuleList(TransformerLayer(_FEATURES) for _ in range(layers))
        self.norm = nn.LayerNorm(_FEATURES)
        self.classifier = nn.Linear(_FEATURES, classes)
        self.register_buffer("position", torch.arange(frames + 1), persistent=False)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        # The token stands first, at 0, so that frame k stands at k + 1.
        tokens = torch.cat([self.token + torch.zeros_like(x[:, :1]), x], dim=1) + self.places
        missing = (self.position[None] > length[:, None]).to(x.dtype) * _NEVER
        for layer in self.layers:
            tokens = layer(tokens, missing[:, None, None])
        return cast(Tensor, self.classifier(self.norm(tokens[:, 0])))


class TransformerLayer(nn.Module):
    """Attention and two linear layers, each added to its input. (N, T, C) -> the same.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, with the norms in front.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor, missing: Tensor) -> Tensor:
        x = x + self.project(self._attend(self.norm1(x), missing))
        return cast(Tensor, x + self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, missing: Tensor) -> Tensor:
        """Return what each token finds; `missing`, (N, 1, 1, T), is subtracted from the scores."""
        count, channels = x.shape[1:]
        apart = self.qkv(x).view(-1, count, 3, _ATTENTION_HEADS, channels // _ATTENTION_HEADS)
        query, key, value = apart.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) / math.sqrt(channels // _ATTENTION_HEADS)
        found = (scores - missing).softmax(dim=-1) @ value
        return found.transpose(1, 2).flatten(2)
