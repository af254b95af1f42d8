"""The depthwise-separable convolution, which replaces a dense one."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn


class SeparableConv2d(nn.Sequential):
    """A depthwise k x k convolution followed directly by a pointwise 1 x 1 one.

    (N, in, H, W) -> (N, out, H', W').

    Paper: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: k.
        stride: Of the depthwise part.
        padding: Of the depthwise part.
        dilation: Of the depthwise part.
        depthwise_bias: Whether the depthwise part has a bias.
        bias: Whether the pointwise part has a bias.
        padding_mode: Of the padding.
    """

    depthwise: nn.Conv2d
    pointwise: nn.Conv2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        depthwise_bias: bool = True,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
    ) -> None:
        super().__init__(
            OrderedDict(
                depthwise=nn.Conv2d(
                    in_channels, in_channels, kernel_size, stride, padding, dilation,
                    groups=in_channels, bias=depthwise_bias, padding_mode=padding_mode,
                ),
                pointwise=nn.Conv2d(in_channels, out_channels, 1, bias=bias),
            )
        )  # fmt: skip

    @torch.no_grad()
    def fold_bias(self) -> None:
        """Move the bias of the depthwise part into that of the pointwise part, which must have one; exact."""
        bias = self.depthwise.bias
        if bias is not None and self.pointwise.bias is not None:
            self.pointwise.bias += self.pointwise.weight[:, :, 0, 0] @ bias
            self.depthwise.bias = None
