"""What a layer of a class of its own really does: the one convolution or matrix product that it computes, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
#: Functions with a weight: the plain layer of each, and the names of its arguments.
_KINDS: dict[Any, tuple[type[nn.Module], tuple[str, ...]]] = {
    F.conv1d: (nn.Conv1d, _CONV),
    F.conv2d: (nn.Conv2d, _CONV),
    F.conv3d: (nn.Conv3d, _CONV),
    F.conv_transpose1d: (nn.ConvTranspose1d, _TRANSPOSED),
    F.conv_transpose2d: (nn.ConvTranspose2d, _TRANSPOSED),
    F.conv_transpose3d: (nn.ConvTranspose3d, _TRANSPOSED),
    F.linear: (nn.Linear, ("input", "weight", "bias")),
}


class NotPlainError(Exception):
    """A layer does more than pad its input and compute one convolution or matrix product; says what."""


@dataclass(frozen=True)
class Padding:
    """Arguments of one call of `torch.nn.functional.pad`."""

    amounts: tuple[int, ...]
    mode: str
    value: float


@dataclass(frozen=True)
class RecordedCall:
    """One call of a layer.

    Attributes:
        kind: The plain class that computes the same.
        weight: Of any shape that `kind` has, as it was used.
        bias: (out,), or None.
        options: The other arguments: stride, padding, dilation, groups, output_padding.
        padding: What was done to the input before; None for nothing.
    """

    kind: type[nn.Module]
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]
    padding: Padding | None


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[type[nn.Module], dict[str, Any], Any]] = []
        self.paddings: list[Padding] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _KINDS:
            kind, names = _KINDS[func]
            self.calls.append((kind, {**dict(zip(names, args, strict=False)), **kwargs}, result))
        elif func is F.pad:
            given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
            amounts = tuple(int(each) for each in given["pad"])
            if any(amounts) and not self.calls:
                self.paddings.append(
                    Padding(amounts, given.get("mode", "constant"), float(given.get("value") or 0))
                )
        return result


def record_call(layer: nn.Module, x: Tensor) -> RecordedCall:
    """Run a layer and return the one convolution or matrix product in it.

    Args:
        layer: A layer in eval mode.
        x: Its input, (N, ...).

    Raises:
        NotPlainError: Something else happens between its input and its output.
    """
    with torch.no_grad(), _Recorder() as recorder:
        result = layer(x)
    if len(recorder.calls) != 1:
        raise NotPlainError(f"it computes {len(recorder.calls)} convolutions or matrix products")
    kind, given, output = recorder.calls[0]
    if not isinstance(result, Tensor) or not _same(result, output):
        raise NotPlainError("it changes the result of its convolution")
    if len(recorder.paddings) > 1:
        raise NotPlainError("it pads more than once")
    padding = recorder.paddings[0] if recorder.paddings else None
    expected = F.pad(x, padding.amounts, padding.mode, padding.value) if padding else x
    if not _same(given["input"], expected):
        raise NotPlainError("it changes the input of its convolution by more than padding")
    options = {
        name: tuple(value) if isinstance(value, (list, tuple)) else value
        for name, value in given.items()
        if name not in ("input", "weight", "bias")
    }
    return RecordedCall(kind, given["weight"], given.get("bias"), options, padding)


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))
