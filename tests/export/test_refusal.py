"""What torch does not export is refused with the place in the network's code and what to do about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.functions import Function
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.errors import ExportError
from zoo.export.exporter import export_onnx


class Numbers(Architecture):
    """A picture of 8 x 8 to some numbers."""

    id, summary, task = "numbers", "a picture to some numbers", "classification"
    input = InputSpec("rgb", 3, example=(8, 8), fixed_size=True)
    output = OutputSpec("logits", 10)

    def build(self) -> nn.Module:
        return nn.Identity()


def smallest(_: nn.Module, x: Tensor) -> Tensor:
    return x.kthvalue(1, 1)[0]


def by_its_sum(_: nn.Module, x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x


def without_diagonal(_: nn.Module, x: Tensor) -> Tensor:
    y = x * 2
    y.diagonal(dim1=2, dim2=3).zero_()
    return y


def by_data(_: nn.Module, x: Tensor) -> Tensor:
    return x * x.data.abs()


def in_halves_of_the_batch(_: nn.Module, x: Tensor) -> Tensor:
    first, second = torch.cat([x, x.flip(3)], 0).chunk(2, 0)
    return first * second


def along_an_axis(_: nn.Module, x: Tensor) -> Tensor:
    return torch.take_along_dim(x, x.argsort(1), 1)


def in_a_loop(_: nn.Module, x: Tensor) -> Tensor:
    return F.embedding_bag(x.argmax(1).flatten(1), torch.eye(8), mode="max")


def with_a_mistake(_: nn.Module, x: Tensor) -> Tensor:
    return x * x.shapes[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "message", "hint"),
    [
        (smallest, r"\(functions.py, line \d+\): ONNX has no operator for torch's kthvalue", "other operators"),
        (by_its_sum, r"\(test_refusal.py, line \d+\): Could not guard", "torch.where"),
        (without_diagonal, "in place", "x.mul_"),
        (in_halves_of_the_batch, "its operator SplitToSequence is not understood", "other operators"),
        (along_an_axis, "number of images alone", "other operators"),
        (in_a_loop, "operator 'Loop': it can compute for ever", "other operators"),
        (by_data, ".data of a tensor", "x.detach()"),
        (with_a_mistake, r"\(test_refusal.py, line \d+\): .*no attribute 'shapes'", "other operators"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_named_with_its_place(
    function: Callable[[nn.Module, Tensor], Tensor], message: str, hint: str
) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        export_onnx(Function(function), Numbers())
    assert hint in str(caught.value.hint)
