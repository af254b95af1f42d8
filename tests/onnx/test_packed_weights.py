"""Packing the weights of a file, and giving INT4 ones back as int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.onnx_models import levels, model_of
from zoo.cost import onnx_cost
from zoo.errors import IntegrityError
from zoo.onnx.packed_weights import unpack_int4

onnx = pytest.importorskip("onnx")


def types_of(model: Any) -> dict[str, int]:
    return {t.name: t.data_type for t in model.graph.initializer if ".weight" in t.name}


def run(data: bytes, inputs: np.ndarray) -> np.ndarray:
    """What the file says, with nothing folded or fused."""
    runtime = pytest.importorskip("onnxruntime")
    settings_ = runtime.SessionOptions()
    settings_.log_severity_level = 4
    settings_.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(data, settings_, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})[0]


@settings(max_examples=40)
@given(
    st.integers(-128, 127),
    st.integers(0, 255),
    st.integers(1, 40),
    st.integers(2, 40),
    st.integers(0, 2**16),
)
def test_packed_weights_are_the_same_numbers(
    lowest: int, span: int, outputs: int, inputs: int, seed: int
) -> None:
    weight = levels(lowest, min(lowest + span, 127), outputs, inputs, seed)
    packed, plain = model_of(weight), model_of(weight, packed=False)
    x = np.random.default_rng(1).random((1, inputs, 2, 3), np.float32)
    assert np.array_equal(run(packed.SerializeToString(), x), run(plain.SerializeToString(), x))


@pytest.mark.parametrize(
    ("lowest", "highest", "bits"),
    [
        (0, 1, 1),
        (-1, 1, 2),
        (-4, 3, 3),
        (-8, 7, 4),
        (-7, 7, 4),
        (0, 15, 4),
        (-15, 15, 5),
        (-16, 16, 6),
        (-64, 63, 7),
    ],
)
def test_each_weight_takes_the_fewest_bits_that_hold_its_levels(lowest: int, highest: int, bits: int) -> None:
    model = model_of(levels(lowest, highest, 256, 64))
    stored = sum(len(t.raw_data) for t in model.graph.initializer if ".weight" in t.name)
    assert stored == 256 * 64 * bits // 8
    assert (types_of(model)["layer0.weight"] == onnx.TensorProto.INT4) == ((bits, highest) in ((4, 7),))


def test_two_signs_take_one_bit_and_more_than_seven_bits_stay_int8() -> None:
    signs = np.where(levels(0, 1, 128, 64) > 0, 1, -1)
    model = model_of(signs, levels(-127, 127, 32, 128))
    sizes = {t.name: len(t.raw_data) for t in model.graph.initializer}
    assert sizes["layer0.weight"] == 128 * 64 // 8
    assert sizes["layer1.weight"] == 32 * 128
    x = np.random.default_rng(1).random((1, 64, 2, 3), np.float32)
    plain = model_of(signs, levels(-127, 127, 32, 128), packed=False)
    assert np.array_equal(run(model.SerializeToString(), x), run(plain.SerializeToString(), x))


def test_constants_are_shared_between_weights() -> None:
    one = model_of(levels(-1, 1, 64, 64))
    three = model_of(*(levels(-1, 1, 64, 64, seed) for seed in range(3)))
    names = [{t.name for t in m.graph.initializer if t.name.startswith("zoo_")} for m in (one, three)]
    assert names[0] == names[1]
    lowest = model_of(levels(-2, 1, 64, 64), levels(-1, 2, 64, 64))
    tables = [t for t in lowest.graph.initializer if t.name.startswith("zoo_int8_4")]
    assert [onnx.numpy_helper.to_array(t).tolist() for t in tables] == [[-2, -1, 0, 1], [-1, 0, 1, 2]]


def test_parameters_and_multiplications_of_packed_files_are_those_of_the_network() -> None:
    """256 x 64 + 65 x 256 weights, each used at 5 x 7 places."""
    data = model_of(levels(-1, 1, 256, 64), levels(-16, 16, 65, 256)).SerializeToString()
    assert b"BitwiseOr" in data
    cost = onnx_cost(data, (1, 64, 5, 7))
    assert cost.parameters == 256 * 64 + 65 * 256
    assert cost.macs == 35 * (256 * 64 + 65 * 256)
    assert [(layer.name, layer.parameters) for layer in cost.layers] == [("layer0", 16384), ("layer1", 16640)]
    assert cost.bytes == len(data)


# ----------------------------------------------------------------------------------------------------- INT4


def test_expanding_gives_int8_weights_and_the_same_results() -> None:
    data = model_of(levels(-8, 7, 5, 3), levels(-8, 7, 9, 5)).SerializeToString()
    expanded = unpack_int4(data)
    assert set(types_of(onnx.load_from_string(data)).values()) == {onnx.TensorProto.INT4}
    new = onnx.load_from_string(expanded)
    onnx.checker.check_model(new, full_check=True)
    assert set(types_of(new).values()) == {onnx.TensorProto.INT8}
    assert {t.data_type for t in new.graph.initializer if "zero" in t.name} == {onnx.TensorProto.INT8}
    x = np.random.default_rng(1).random((1, 3, 2, 3), np.float32)
    assert np.array_equal(run(expanded, x), run(data, x))
    assert unpack_int4(expanded) is expanded


def test_int4_that_other_operators_take_stays() -> None:
    model = model_of(levels(-8, 7, 6, 4))
    model.graph.node.append(onnx.helper.make_node("Identity", ["layer0.weight"], ["copy"]))
    assert unpack_int4(model.SerializeToString()) == model.SerializeToString()


def test_a_weight_of_the_wrong_size_is_refused() -> None:
    model = model_of(levels(-8, 7, 6, 4))
    weight = next(t for t in model.graph.initializer if t.name == "layer0.weight")
    weight.raw_data = weight.raw_data[:-1]
    with pytest.raises(IntegrityError, match=r"'layer0\.weight' does not have the size"):
        unpack_int4(model.SerializeToString())
