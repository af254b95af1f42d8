"""The inverted residual block of MobileNetV2, which stands in for a dense convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

from torch import Tensor, nn


class InvertedResidualBlock(nn.Module):
    """A 1 x 1 convolution to many channels, a depthwise k x k one, a linear 1 x 1 one back to few.

    (N, in, H, W) -> (N, out, H', W'). Stride, padding and dilation belong to the depthwise part. There is no
    batch norm: what stands in for a trained convolution has it folded already, or following.
    Paper: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

    hidden:     channels of the depthwise part.
    activation: makes what follows the expanding and the depthwise part (nn.ReLU6 in the paper); None for nothing.
    residual:   add the input to the result; both must have the same shape.
    pad_first:  pad the input of the expanding part rather than that of the depthwise one. Where activations have
                been lifted off zero, only this makes the border what it would be without them.
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

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation1(self.expand(x))
        projected = cast(Tensor, self.project(self.activation2(self.depthwise(hidden))))
        return x + projected if self.residual else projected
