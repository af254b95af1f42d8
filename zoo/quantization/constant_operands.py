"""Sums and products with a number, which an exported file holds as a quantized tensor."""

from __future__ import annotations

from torch import Tensor, nn


class PlusConstant(nn.Module):
    """Adds a number. Any shape."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def extra_repr(self) -> str:
        return f"{self.value:g}"

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value


class TimesConstant(nn.Module):
    """Multiplies by a positive number. Any shape."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def extra_repr(self) -> str:
        return f"{self.value:g}"

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value
