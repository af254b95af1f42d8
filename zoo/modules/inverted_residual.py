"""The inverted residual block of MobileNetV2, which replaces a dense convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

from torch import Tensor, nn


class InvertedResidualBlock(nn.Module):
    """A 1 x 1 convolution to many channels, a depthwise k x k one, and a linear 1 x 1 one back to few.

    (N, in, H, W) -> (N, out, H', W'). Stride, padding and dilation belong to the depthwise part. There is no batch
    norm: a trained convolution that the block replaces has its own folded already, or it follows.

    Paper: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

    Args:
        in_channels: Input channels.
        hidden: Channels of the depthwise part.
        out_channels: Output channels.
        kernel_size: k.
        stride: Of the depthwise part.
        padding: Of the depthwise part.
        dilation: Of the depthwise part.
        bias: Whether the convolutions have biases.
        padding_mode: Of the padding.
        activation: Makes what follows the expanding and the depthwise part (nn.ReLU6 in the paper); None for nothing.
        residual: Add the input to the result; both must have the same shape.
        pad_first: Pad the input of the expanding part instead of that of the depthwise one. If activations have been
            shifted away from zero, only this makes the border what it would be without the shift.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 1,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        activation: Callable[[], nn.Module] | None = None,
        residual: bool = False,
        pad_first: bool = False,
    ) -> None:
        super().__init__()
        first, then = (padding, 0) if pad_first else (0, padding)
        self.expand = nn.Conv2d(in_channels, hidden, 1, padding=first, bias=bias, padding_mode=padding_mode)
        self.activation1 = activation() if activation else nn.Identity()
        self.depthwise = nn.Conv2d(
            hidden, hidden, kernel_size, stride, then, dilation,
            groups=hidden, bias=bias, padding_mode=padding_mode,
        )  # fmt: skip
        self.activation2 = activation() if activation else nn.Identity()
        self.project = nn.Conv2d(hidden, out_channels, 1, bias=bias)
        self.residual = residual

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name by which torch's layers are called
        hidden = self.activation1(self.expand(input))
        projected = cast(Tensor, self.project(self.activation2(self.depthwise(hidden))))
        return input + projected if self.residual else projected
