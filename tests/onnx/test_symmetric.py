"""Int8 files as TensorRT takes them: int8 activations whose zero point is 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from support.onnx_models import plain_run, quantizing_model
from support.quantized import SmallUNet, pictures, quantized, small_float_file, small_symmetric_file
from zoo.export.exporter import export_onnx
from zoo.onnx.symmetric import to_symmetric
from zoo.onnx.uint8 import to_unsigned
from zoo.quantization.prepare import freeze

onnx = pytest.importorskip("onnx")


def rectified_file(bits: int = 8) -> bytes:
    """Conv, ReLU, Conv, ReLU6, Conv with activations of `bits`."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 12, 1),
        nn.PixelShuffle(2),
    )  # fmt: skip
    module, _ = quantized(net, pictures(2), bits=bits, observer="minmax")
    return export_onnx(freeze(module.eval()), SmallUNet())


def activation_zero_points(data: bytes) -> set[tuple[str, int]]:
    graph = onnx.load_from_string(data).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    zeros = [constants[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    return {(zero.dtype.name, int(zero)) for zero in zeros}


def test_levels_with_a_sign_move_and_no_bit_changes() -> None:
    x = pictures(2).numpy()
    symmetric = to_symmetric(small_symmetric_file())
    onnx.checker.check_model(onnx.load_from_string(symmetric), full_check=True)
    assert activation_zero_points(small_symmetric_file()) == {("uint8", 128)}
    assert activation_zero_points(symmetric) == {("int8", 0)}
    assert np.array_equal(plain_run(symmetric, x), plain_run(small_symmetric_file(), x))


def test_levels_from_zero_up_are_halved_and_reach_as_far() -> None:
    data = rectified_file()
    symmetric = to_symmetric(data)
    onnx.checker.check_model(onnx.load_from_string(symmetric), full_check=True)
    assert activation_zero_points(data) == {("uint8", 0), ("uint8", 4)}  # the input has hardly any below 0
    assert activation_zero_points(symmetric) == {("int8", 0)}
    x = 3 * pictures(2).numpy()  # beyond the ranges, which must end where they did
    expected, found = plain_run(data, x), plain_run(symmetric, x)
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_few_levels_fit_as_they_are() -> None:
    data = rectified_file(bits=4)
    x = pictures(2).numpy()
    assert activation_zero_points(to_symmetric(data)) == {("int8", 0)}
    assert np.array_equal(plain_run(to_symmetric(data), x), plain_run(data, x))


def test_a_file_that_is_symmetric_or_float_is_left_as_it_is() -> None:
    symmetric = to_symmetric(rectified_file())
    assert to_symmetric(symmetric) == symmetric
    assert to_symmetric(small_float_file()) is small_float_file()


def test_shifted_back_it_is_the_same_network() -> None:
    x = pictures(2).numpy()
    symmetric = to_symmetric(rectified_file())
    assert np.array_equal(plain_run(to_unsigned(symmetric), x), plain_run(symmetric, x))


@pytest.mark.parametrize("zero", [np.uint8(7), np.uint8(200), np.uint8(255)])
def test_levels_mostly_on_one_side_of_zero_reach_as_far_with_longer_steps(zero: np.ndarray) -> None:
    data = quantizing_model(zero=zero).SerializeToString()  # type: ignore[attr-defined]
    symmetric = to_symmetric(data)
    assert activation_zero_points(symmetric) == {("int8", 0)}
    ends = np.float32(0.05) * np.diag(np.float32([-int(zero), 255 - int(zero), 0, 0]))
    step, largest_weight = 0.05 * max(int(zero), 255 - int(zero)) / 127, 8
    difference = np.abs(plain_run(data, ends) - plain_run(symmetric, ends)).max()
    assert difference <= 1.01 * step / 2 * largest_weight
