"""Networks with auxiliary heads are trained on their main output."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import ZooError
from zoo.training.outputs import count_outputs, primary_output

FIRST, SECOND = torch.zeros(1), torch.ones(2)


@pytest.mark.parametrize(
    ("outputs", "expected", "count"),
    [
        (FIRST, FIRST, 1),
        ((FIRST, SECOND), FIRST, 2),
        ([[FIRST], SECOND], FIRST, 2),
        ({"aux": SECOND, "out": FIRST}, FIRST, 2),
        ({"logits": FIRST, "hidden": (SECOND, SECOND)}, FIRST, 2),
        ({"a": FIRST, "b": SECOND}, FIRST, 2),
    ],
)
def test_the_main_output_is_the_first_or_the_one_called_so(
    outputs: object, expected: object, count: int
) -> None:
    assert primary_output(outputs) is expected
    assert count_outputs(outputs) == count


@pytest.mark.parametrize("outputs", [None, (), {}, (None, FIRST), ("text",)])
def test_outputs_without_a_tensor_in_front_are_refused(outputs: object) -> None:
    with pytest.raises(ZooError, match="to train on"):
        primary_output(outputs)
