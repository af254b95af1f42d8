"""Sizes that follow from the input's in more steps than an exporter can follow."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

#: Operations in one formula. Networks that take any size come to about ten; torch's simplifications take minutes and
#: hours from about fifty on, which padding to the multiple of a window reaches after a few layers.
_MOST = 32


class SymbolicShapeTooComplex(Exception):
    """A network that cannot be exported for varying sizes within reason."""


def limit_symbolic_shapes(model: nn.Module) -> None:
    """Make `model` raise SymbolicShapeTooComplex at the first module, while traced, whose result has such a size."""
    for name, module in model.named_modules():
        module.register_forward_hook(partial(_check, name))


def _check(name: str, module: nn.Module, given: Any, result: Any) -> None:
    for size in result.shape if isinstance(result, Tensor) else ():
        if isinstance(size, torch.SymInt):
            operations = int(size.node.expr.count_ops())
            if operations > _MOST:
                kind = f"'{name.removeprefix('net.')}', {type(module).__name__},"
                raise SymbolicShapeTooComplex(
                    f"the size of the output of {kind} takes {operations} operations to derive"
                )
