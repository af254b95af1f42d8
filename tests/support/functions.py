"""Networks made of a function, for graphs that are awkward to trace or to quantize."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Function(nn.Module):
    """A network whose forward() is `compute(net, x)`, for graphs that are awkward to trace or to quantize."""

    def __init__(self, compute: Any, **layers: nn.Module) -> None:
        super().__init__()
        self.compute = compute
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.compute(self, x)
