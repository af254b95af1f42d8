"""What layers a network has, as an engine will meet them: seen while it computes, so its code does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.contracts import InputSpec
from zoo.contracts.random_inputs import random_inputs
from zoo.surgery import evaluating, on_device_of

_SIDE = 64
_ACTIVATIONS = {
    "leaky_relu": "leaky-relu", "leaky_relu_": "leaky-relu", "silu": "silu", "silu_": "silu", "hardswish": "silu",
    "hardswish_": "silu", "cat": "concat",
}  # fmt: skip


@dataclass(frozen=True)
class Layers:
    """The layers of a network, as kernel gaps see them.

    Attributes:
        kinds: Of :data:`zoo.contracts.GAP_OPERATORS`.
        channels: (in, out) of each dense convolution, in order.
    """

    kinds: frozenset[str]
    channels: tuple[tuple[int, int], ...]

    def odd(self, multiple: int) -> int:
        """Return the number of dense convolutions whose inner channel counts are not multiples of `multiple`."""
        inner = [channel for pair in self.channels for channel in pair][1:-1]
        pairs = [self.channels[0][1:], *self.channels[1:-1], self.channels[-1][:1]] if inner else []
        return sum(any(channel % multiple for channel in pair) for pair in pairs)


def layers_of(model: nn.Module, spec: InputSpec) -> Layers:
    """Run the network once on a small input and note what it computes. `model` stays as it is."""
    unit = spec.multiple_of
    sides = spec.example if spec.fixed_size else (-(-_SIDE // unit) * unit,) * 2
    watching = _Watching()
    with evaluating(model):
        inputs = on_device_of(model, torch.from_numpy(random_inputs(spec, 1, sides)))
        with watching:
            model(inputs)
    return Layers(frozenset(watching.kinds), tuple(watching.channels))


class _Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kinds: set[str] = set()
        self.channels: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name == "convolution":
            weight, transposed, groups = args[1], args[6], args[8]
            self._convolution(weight, transposed=transposed, groups=groups)
        elif name in _ACTIVATIONS:
            self.kinds.add(_ACTIVATIONS[name])
        return func(*args, **(kwargs or {}))

    def _convolution(self, weight: torch.Tensor, *, transposed: bool, groups: int) -> None:
        self.kinds.add("transposed" if transposed else "conv")
        if groups > 1:
            self.kinds.add("grouped")
            if weight.shape[1] == 1:
                self.kinds.add("depthwise")
            return
        first, second = weight.shape[:2]
        self.channels.append((first, second) if transposed else (second, first))
