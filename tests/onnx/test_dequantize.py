"""An int8 file as the float network it stands for: no quantization is left, and it computes what the file does."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from support import tiny
from support.onnx_models import levels, model_of, plain_run, quantizing_model
from support.quantized import SmallUNet, context, pictures
from zoo import plugins
from zoo.artifacts import open_artifact
from zoo.artifacts.golden import check_golden, output_psnr
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import IntegrityError
from zoo.export.exporter import export_onnx
from zoo.onnx.dequantize import to_float
from zoo.registry import shipped_folder

onnx = pytest.importorskip("onnx")
INTEGER = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
UNPACKING = {"BitShift", "BitwiseAnd", "BitwiseOr", "Gather"}


def checked(data: bytes) -> Any:
    """The model, which the onnx package takes for a right one."""
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    return model


def operators(data: bytes) -> set[str]:
    return {node.op_type for node in checked(data).graph.node}


@pytest.mark.parametrize("name", ["lighter-unet-int8", "lighter-unet", "unet"])
def test_every_shipped_checkpoint_passes_its_golden_check_in_float(name: str) -> None:
    artifact = open_artifact(shipped_folder(name), subset=True)
    data = artifact.read("model.onnx")
    rewritten = to_float(data)
    assert not operators(rewritten) & INTEGER
    assert (rewritten is data) == ("int8" not in name)
    measured = check_golden(OnnxRuntimeEngine().open(rewritten, threads=1), artifact, "float")
    assert measured is not None
    assert measured > 35


QUANTIZATIONS = {
    "ptq": ("ptq", {}),
    "ptq of 4 bits": ("ptq", {"weight_bits": "4"}),
    "dynamic": ("ptq", {"mode": "dynamic"}),
    "fixed-point": ("fixed-point", {}),
    "ternary": ("fixed-point", {"w": "ternary", "a": "4.4"}),
    "published": ("fixed-point", {"w": "1.4", "a": "3.3", "mode": "paper", "scale": "one"}),
}


class Small(nn.Module):
    """A convolution, a ReLU6, a depthwise convolution, a skip connection and a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(4, 12, 3, padding=1), nn.ReLU6()
        self.second, self.act = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.LeakyReLU(0.2)
        self.last, self.shuffle = nn.Conv2d(24, 12, 1), nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(4 * self.first(x))
        return self.shuffle(self.last(torch.cat([self.act(self.second(x)), x], dim=1)))


QUANTIZATIONS = {
    "ptq": ("ptq", {}),
    "ptq with INT4 weights": ("ptq", {"weight_bits": "4"}),
    "dynamic": ("ptq", {"mode": "dynamic"}),
    "ternary": ("fixed-point", {"w": "ternary", "a": "4.4", "keep": ()}),
    "published": ("fixed-point", {"w": "0.4", "a": "3.3", "mode": "paper", "keep": ()}),
}


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_a_quantized_net_becomes_the_float_net_whose_weights_are_on_levels(kind: str) -> None:
    torch.manual_seed(0)
    net, technique = Small().eval(), plugins.technique(*QUANTIZATIONS[kind])
    where = context(SmallUNet(), pictures(4))
    module = technique.finish(technique.rewrite(copy.deepcopy(net), where).eval(), where)
    data = export_onnx(module, SmallUNet())
    assert operators(data) & INTEGER
    rewritten = to_float(data)
    assert not operators(rewritten) & (INTEGER | UNPACKING)
    inputs = pictures(2, seed=5)
    with torch.no_grad():
        before = net(inputs).clamp(0, 1).numpy()
    integers, floats = plain_run(data, inputs.numpy()), plain_run(rewritten, inputs.numpy())
    assert output_psnr(floats, integers) > 40
    # without the rounding of activations it is hardly further from the net that it was made of, if at all: biases and
    # deviations are corrected for both roundings together
    assert output_psnr(floats, before) >= output_psnr(integers, before) - 0.5


def test_values_beyond_the_range_of_levels_are_still_cut_off() -> None:
    data = quantizing_model().SerializeToString()
    inputs = np.array([[100, -100, 1.01, -1.01]], np.float32)
    rewritten = to_float(data)
    assert operators(rewritten) == {"Clip", "MatMul"}
    assert np.allclose(plain_run(rewritten, inputs), plain_run(data, inputs), atol=0.3)


def test_what_only_moves_values_of_one_range_is_not_cut_off_twice() -> None:
    data = (shipped_folder("lighter-unet-int8") / "model.onnx").read_bytes()
    before, after = ([n.op_type for n in checked(each).graph.node] for each in (data, to_float(data)))
    assert after.count("MaxPool") == 4
    assert after.count("Clip") <= before.count("QuantizeLinear") + 1 - 4


@pytest.mark.parametrize(("low", "high"), [(-8, 7), (-1, 1), (0, 1), (-4, 3), (-15, 15), (-127, 127)])
def test_weights_of_any_number_of_bits_are_the_same_numbers(low: int, high: int) -> None:
    """The unpacking alone: the files have no activations to round."""
    model = model_of(levels(low, high, 12, 7), levels(low, high, 4, 12))
    model.graph.node.insert(0, onnx.helper.make_node("QuantizeLinear", ["input", "unit"], ["dead"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "unit"))
    data = model.SerializeToString()
    rewritten = to_float(data)
    assert operators(rewritten) == {"Conv"}
    assert {t.data_type for t in checked(rewritten).graph.initializer} == {onnx.TensorProto.FLOAT}
    x = np.random.default_rng(0).random((1, 7, 3, 5), np.float32)
    assert np.allclose(plain_run(rewritten, x), plain_run(data, x), rtol=1e-5, atol=1e-5)


def test_levels_that_leave_the_network_stay_levels() -> None:
    model = quantizing_model()
    value = onnx.helper.make_tensor_value_info("levels", onnx.TensorProto.INT8, ["n", 4])
    model.graph.output.append(value)
    rewritten = to_float(model.SerializeToString())
    assert "QuantizeLinear" in operators(rewritten)
    x = np.ones((1, 4), np.float32)
    assert np.array_equal(plain_run(rewritten, x), plain_run(model.SerializeToString(), x))


def test_a_result_that_is_dequantized_is_still_the_result() -> None:
    model = quantizing_model()
    del model.graph.node[2:]
    model.graph.node[1].output[0] = "output"
    rewritten = to_float(model.SerializeToString())
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    assert operators(rewritten) == {"Clip", "Identity"}
    assert np.allclose(plain_run(rewritten, x), x)


def test_a_float_file_is_left_as_it_is() -> None:
    data = tiny.small_unet()
    assert to_float(data) is data


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_mutation_of_a_model_escapes_as_anything_but_an_integrity_error(data: st.DataObject) -> None:
    content = bytearray(PACKED if data.draw(st.booleans()) else QUANTIZING)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        to_float(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except IntegrityError:
        return


def packed() -> bytes:
    model = model_of(levels(-4, 3, 6, 5))
    model.graph.node.insert(0, onnx.helper.make_node("QuantizeLinear", ["input", "layer0.scale"], ["dead"]))
    return model.SerializeToString()


PACKED, QUANTIZING = packed(), quantizing_model().SerializeToString()
