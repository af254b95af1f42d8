"""What decides that a position of a stage has come far enough, and what becomes of it then."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: What the modules are called, with the numbers of the stage and of the block before which they decide.
PREFIX = "halting_"
#: Of the mean's weights, which are few: with it they learn as fast as those of the convolution.
_GAIN = 10.0


class Halting(nn.Module):
    """The share of a position's result that is still open: 1 at first, less by each score, 0 once it has halted.

    (N, C, H, W) and what was open before, (N, 1, H, W) or None for the first -> (N, 1, H, W); where one score counts
    for the whole image, (N, 1, 1, 1). A score is the sigmoid of a 3 x 3 convolution plus a 1 x 1 convolution of the
    mean. A factor takes the place of the published batch norms, which would cost the file an operator on all channels.

    Args:
        channels: Of the states.
        spatial: Whether each position has a score of its own.
        threshold: The sum of its scores at which a position halts.
        bias: Of the scores at the start; all weights are 0.
    """

    least: Tensor
    scale: Tensor

    def __init__(self, channels: int, spatial: bool, threshold: float, bias: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 3, padding=1, bias=False) if spatial else None
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.pooled = nn.Conv2d(channels, 1, 1)
        self.score = nn.Sigmoid()
        self.register_buffer("least", torch.tensor([1 - threshold]))
        self.register_buffer("scale", torch.ones(1))
        if self.conv is not None:
            nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.pooled.weight)
        nn.init.constant_(self.pooled.bias, bias / _GAIN)

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        found = self.pooled(self.mean(x)) * _GAIN
        if self.conv is not None:
            found = self.conv(x) + found
        score = self.score((found * self.scale).float())
        # Differences are what engines compute in float also where they compute in int8.
        opened = 1 - score if before is None else before - score
        opened = torch.where(opened <= self.least, 0.0, opened)
        return opened if before is None else torch.where(before <= 0, before, opened)

    @torch.no_grad()
    def set_size(self, squares: float) -> None:
        """Set what inputs are normalised by, the mean of their squares; what a state of zeros gives stays the same."""
        if squares > 0 and self.pooled.bias is not None:
            self.pooled.bias.mul_(self.scale)
            self.scale.fill_(squares**-0.5)
            self.pooled.bias.div_(self.scale)


class Kept(nn.Module):
    """The state of positions that have halted, the result of the block for the others.

    What is open (N, 1, H, W) or (N, 1, 1, 1), the state and the result, (N, C, H, W) each -> (N, C, H, W).
    """

    def forward(self, opened: Tensor, state: Tensor, result: Tensor) -> Tensor:
        return torch.where(opened <= 0, state, result)


class Share(nn.Module):
    """One more state in the weighted sum, with the share of the result that its halting closes.

    The state (N, C, H, W); what was open before it, None for all; what is open after it, None for nothing; the sum so
    far, None for nothing -> (N, C, H, W).
    """

    def forward(
        self,
        state: Tensor,
        before: Tensor | None = None,
        after: Tensor | None = None,
        total: Tensor | None = None,
    ) -> Tensor:
        opened = 1 if before is None else before
        part: Tensor = state * (opened if after is None else opened - after)
        return part if total is None else total + part
