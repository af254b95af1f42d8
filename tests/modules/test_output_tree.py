"""The main output of a network is chosen by convention, and every output has a name."""

from __future__ import annotations

import collections

import pytest
import torch

from zoo.errors import ZooError
from zoo.modules.output_tree import names_of, primary_output, tensors_of

FIRST, SECOND = torch.zeros(1), torch.ones(2)


@pytest.mark.parametrize(
    ("outputs", "expected", "count"),
    [
        (FIRST, FIRST, 1),
        ((FIRST, SECOND), FIRST, 2),
        ([[FIRST], SECOND], FIRST, 2),
        ({"aux": SECOND, "out": FIRST}, FIRST, 2),
        ({"logits": FIRST, "hidden": (SECOND, SECOND)}, FIRST, 3),
        ({"a": FIRST, "b": SECOND}, FIRST, 2),
    ],
)
def test_the_main_output_is_the_first_or_the_one_called_so(
    outputs: object, expected: object, count: int
) -> None:
    assert primary_output(outputs) is expected
    assert len(tensors_of(outputs)) == count


@pytest.mark.parametrize("outputs", [None, (), {}, ("text",), {"a": [None]}])
def test_outputs_without_a_tensor_are_refused(outputs: object) -> None:
    with pytest.raises(ZooError, match="without a tensor"):
        primary_output(outputs)


def test_outputs_are_named_by_their_place() -> None:
    nested = {"Boxes": (FIRST, {"1x1": SECOND}), "none": None, "out": [FIRST]}
    assert list(tensors_of(nested)) == ["boxes_0", "boxes_1_1x1", "out_0"]
    assert list(tensors_of(FIRST)) == ["0"]
    pair = collections.namedtuple("Pair", ["aux", "Logits"])(FIRST, (SECOND, FIRST))
    assert list(tensors_of(pair)) == ["aux", "logits_0", "logits_1"]
    assert names_of(pair) == type(pair)("aux", ("logits_0", "logits_1"))
