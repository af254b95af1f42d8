"""The fire module of SqueezeNet and its transposed form, which replace dense convolutions."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn


class FireModule(nn.Module):
    """A 1 x 1 convolution to few channels, then parallel 1 x 1 and k x k convolutions, concatenated.

    (N, in, H, W) -> (N, first + second, H', W'). Stride, padding and dilation belong to the expanding part; the 1 x 1
    branch sees what the centre of the k x k kernel sees, so padding must be dilation * (k - 1) / 2. Any activation
    after the concatenation belongs to the network around the module.

    Paper: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", arXiv:1602.07360.

    Args:
        in_channels: Input channels.
        squeeze: Channels between the two parts.
        expand: Channels (first, second) of the 1 x 1 and the k x k branch; one number for both.
        kernel_size: k, of the second branch.
        stride: Of both branches.
        padding: Of the second branch.
        dilation: Of the second branch.
        bias: Whether the convolutions have biases.
        padding_mode: Of the second branch.
        activation: What follows the squeezing convolution; None for nothing.
    """

    def __init__(
        self,
        in_channels: int,
        squeeze: int,
        expand: int | tuple[int, int],
        *,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 1,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        first, second = (expand, expand) if isinstance(expand, int) else expand
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1, bias=bias)
        self.activation = nn.Identity() if activation is None else activation
        self.expand1 = nn.Conv2d(squeeze, first, 1, stride, bias=bias)
        self.expand3 = nn.Conv2d(
            squeeze, second, kernel_size, stride, padding, dilation, bias=bias, padding_mode=padding_mode
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name by which torch's layers are called
        x = cast(Tensor, self.activation(self.squeeze(input)))
        return torch.cat([self.expand1(x), self.expand3(x)], dim=1)


class TransposedFireModule(nn.Module):
    """The fire module for up-sampling: 1 x 1 to few channels, then parallel transposed 1 x 1 and k x k, concatenated.

    (N, in, H, W) -> (N, first + second, k*H, k*W). The stride is the kernel's size; the transposed 1 x 1 branch
    computes one pixel of each k x k block and has its bias at the others. The squeezing convolution is an ordinary
    one, which a transposed 1 x 1 convolution of stride one is as well.

    Paper: Beheshti and Johnsson, "Squeeze U-Net: A Memory and Energy Efficient Image Segmentation Network", CVPR
    Workshops 2020.

    Args:
        in_channels: Input channels.
        squeeze: Channels between the two parts.
        expand: Channels (first, second) of the 1 x 1 and the k x k branch; one number for both.
        kernel_size: k, which is the stride too.
        bias: Whether the convolutions have biases.
        activation: What follows the squeezing convolution; None for nothing.
    """

    def __init__(
        self,
        in_channels: int,
        squeeze: int,
        expand: int | tuple[int, int],
        *,
        kernel_size: int = 2,
        bias: bool = True,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        first, second = (expand, expand) if isinstance(expand, int) else expand
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1, bias=bias)
        self.activation = nn.Identity() if activation is None else activation
        self.expand1 = nn.ConvTranspose2d(
            squeeze, first, 1, stride=kernel_size, output_padding=kernel_size - 1, bias=bias
        )
        self.expand2 = nn.ConvTranspose2d(squeeze, second, kernel_size, stride=kernel_size, bias=bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name by which torch's layers are called
        x = cast(Tensor, self.activation(self.squeeze(input)))
        return torch.cat([self.expand1(x), self.expand2(x)], dim=1)
