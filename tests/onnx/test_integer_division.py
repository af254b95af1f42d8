"""Divisions of integers that could end an engine's process are refused; those that networks need are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo.errors import IntegrityError
from zoo.onnx import integer_division
from zoo.onnx.graph import read_model
from zoo.onnx.integer_division import check_divisions
from zoo.onnx.operator_sets import NEWEST_OPSET, OLDEST_OPSET, operator_problem

SIDES = helper.make_node("Shape", ["x"], ["sides"])
ZEROS = helper.make_node("Sub", ["sides", "sides"], ["zeros"])
CONSTANTS: dict[str, Any] = {
    "minus_one": np.int64(-1), "zero": np.int64(0), "some_zero": np.array([2, 0], np.int32), "two": np.int64(2),
    "three": np.int32(3), "byte": np.uint8(255), "half": np.float32(0.5), "a": np.int64(2**32 - 1),
    "b": np.int64(2**32 + 1), "many": np.full(100, 7, np.int64), "yes": np.bool_(True),
}  # fmt: skip


def node(operator: str, *names: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, names[:-1], names[-1:], name="here", **attributes)


def check(*nodes: onnx.NodeProto) -> None:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, None, None])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()],
    )  # fmt: skip
    check_divisions(read_model(helper.make_model(graph).SerializeToString()))


TO_INTEGERS = node("Cast", "x", "i", to=TensorProto.INT64)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([TO_INTEGERS, node("Div", "i", "minus_one", "y")], "may be -1"),
        ([TO_INTEGERS, node("Mod", "i", "zero", "y")], "may be zero"),
        ([node("Cast", "x", "i", to=6), node("Div", "i", "some_zero", "y")], "may be zero"),
        ([TO_INTEGERS, node("Div", "i", "i", "y")], "may be -1"),
        ([TO_INTEGERS, SIDES, ZEROS, node("Add", "zeros", "minus_one", "d"), node("Div", "i", "d", "y")], "may be -1"),
        ([TO_INTEGERS, node("Mul", "a", "b", "d"), node("Div", "i", "d", "y")], "may be -1"),
        ([TO_INTEGERS, node("Constant", "d", value_ints=[-3, -1]), node("Div", "i", "d", "y")], "may be -1"),
        ([TO_INTEGERS, node("Cast", "a", "d", to=6), node("Cast", "d", "e", to=7), node("Div", "i", "e", "y")], "-1"),
        ([node("Div", "i", "minus_one", "y"), TO_INTEGERS], "not known before"),
        ([TO_INTEGERS, node("STFT", "x", "two", "", "zero", "y")], "length of a frame"),
        ([TO_INTEGERS, node("STFT", "x", "two", "half", "y")], "length of a frame"),
    ],
)  # fmt: skip
def test_what_could_trap_is_refused_by_name(nodes: Sequence[onnx.NodeProto], why: str) -> None:
    with pytest.raises(IntegrityError, match=rf"(Div|Mod|STFT) 'here' .*{why}"):
        check(*nodes)


@pytest.mark.parametrize(
    "nodes",
    [
        [TO_INTEGERS, node("Div", "i", "two", "y")],
        [node("Cast", "x", "i", to=6), node("Mod", "i", "three", "y")],
        [node("Cast", "x", "i", to=2), node("Div", "i", "byte", "y")],
        [node("Div", "x", "half", "y")],
        [node("Div", "x", "x", "y")],
        [SIDES, node("Div", "sides", "minus_one", "y")],
        [SIDES, node("Gather", "sides", "two", "h"), node("Div", "h", "two", "d"), node("Div", "sides", "d", "y")],
        [SIDES, node("Sub", "sides", "two", "less"), node("Div", "less", "two", "y")],
        [TO_INTEGERS, SIDES, node("Mod", "i", "sides", "y")],
        [TO_INTEGERS, node("STFT", "x", "two", "half", "two", "y")],
    ],
)  # fmt: skip
def test_what_networks_need_passes(nodes: Sequence[onnx.NodeProto]) -> None:
    check(*nodes)


def test_branches_are_checked_and_what_they_give_is_bounded_too() -> None:
    def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(
            nodes, "b", [], [helper.make_tensor_value_info("r", TensorProto.INT64, None)]
        )

    good, bad = branch(node("Identity", "two", "r")), branch(node("Identity", "minus_one", "r"))
    traps = branch(node("Div", "i", "minus_one", "r"))
    divide = node("Div", "i", "d", "y")
    check(TO_INTEGERS, node("If", "yes", "d", then_branch=good, else_branch=good), divide)
    for other in (bad, traps):
        with pytest.raises(IntegrityError, match="may be -1"):
            check(TO_INTEGERS, node("If", "yes", "d", then_branch=good, else_branch=other), divide)


def test_the_types_of_results_are_those_of_standard_onnx() -> None:
    wrong = set()
    otherwise = {"Constant", "ConstantOfShape", "If"}  # by what is in the node
    otherwise |= {
        "ConcatFromSequence",
        "SequenceAt",
    }  # as their sequence's elements, which is their first input
    newest = min(NEWEST_OPSET, onnx.defs.onnx_opset_version())
    for schema in onnx.defs.get_all_schemas_with_history():
        name, since = schema.name, max(schema.since_version, OLDEST_OPSET)
        if schema.domain or since > newest or operator_problem(name, since) or name in otherwise:
            continue
        given = [each.type_str for each in schema.inputs]
        for place, output in enumerate(schema.outputs):
            kinds = set(output.types) & {
                f"tensor({kind})" for kind in ("int64", "int32", "bool", "uint8", "int8")
            }
            stated = integer_division._TYPE_STATED.get(name) in schema.attributes
            by_input = integer_division._TYPE_OF_INPUT.get(name, 0)
            as_input = by_input < len(given) and output.type_str == given[by_input]
            fixed = integer_division._FURTHER.get(name, {}).get(place) or integer_division._TYPE_OF.get(name)
            if kinds and not (stated or as_input or fixed):
                wrong.add((name, place, schema.since_version, output.type_str))
    assert not wrong
