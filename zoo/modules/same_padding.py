"""The padding that TensorFlow calls SAME, whose amount depends on the size of the input."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SamePad2d(nn.Module):
    """Pad with zeros so that a convolution without padding returns ceil(size / stride) pixels along each side.

    (N, C, H, W) -> (N, C, H', W'). An odd amount puts the extra row or column at the end.

    Args:
        kernel: (height, width) of the convolution's kernel.
        stride: Its stride along height and width.
        dilation: Its dilation along height and width.
    """

    def __init__(
        self, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = kernel, stride, dilation

    def amounts(self, height: int, width: int) -> list[int]:
        """Return the padding (left, right, top, bottom) of an input of some size, in pixels."""
        found: list[int] = []
        for size, axis in ((width, 1), (height, 0)):
            reach = (self.kernel[axis] - 1) * self.dilation[axis]
            total = reach - (size - 1) % self.stride[axis]
            if reach < self.stride[axis] - 1:
                total = cast(int, torch.sym_max(total, 0))
            found += [total // 2, total - total // 2]
        return found

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts(x.shape[-2], x.shape[-1]))

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, dilation={self.dilation}"
