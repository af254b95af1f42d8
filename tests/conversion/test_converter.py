"""A converted network computes what its ONNX file does, for any batch, or the operator at fault is named."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import onnx
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import plain_run, quantizing_model
from zoo.conversion import convert_onnx
from zoo.conversion.converter_table import CONVERTERS
from zoo.errors import DisagreementError, InputError

FLOAT = TensorProto.FLOAT


def model(*nodes: Any, shape: tuple[Any, ...] = (1, 4, 8, 8), opset: int = 17, **constants: Any) -> bytes:
    """The nodes from "x" to "y", with constants by name."""
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info("x", FLOAT, shape), helper.make_empty_tensor_value_info("y")]
    ends[1].type.tensor_type.elem_type = FLOAT
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], values)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    data: bytes = made.SerializeToString()
    return data


def node(kind: str, *inputs: str, to: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, ["x", *inputs], [to], name=f"the-{kind}", **attributes)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def recurrent(kind: str, gates: int, directions: int, **attributes: Any) -> bytes:
    """32 steps of 8 numbers from (1, 4, 8, 8), in layers of 5."""
    return model(
        helper.make_node("Reshape", ["x", "sides"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(kind, ["steps", "w", "r", "b"], ["all", "last"], hidden_size=5, **attributes),
        helper.make_node("Transpose", ["all"], ["y"], perm=[2, 0, 1, 3]),
        sides=np.array([-1, 32, 8]),
        w=noise(directions, gates * 5, 8),
        r=noise(directions, gates * 5, 5),
        b=noise(directions, 2 * gates * 5),
    )


OPERATORS: dict[str, bytes] = {
    "Conv, ends padded differently": model(node("Conv", "w", "b", pads=[0, 1, 2, 1]), w=noise(6, 4, 3, 3), b=noise(6)),
    "Conv, SAME_UPPER with stride": model(
        node("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 2]), w=noise(6, 4, 3, 3)
    ),
    "Conv, SAME_LOWER": model(node("Conv", "w", auto_pad="SAME_LOWER"), w=noise(6, 4, 2, 2)),
    "Conv, grouped and dilated": model(node("Conv", "w", group=2, dilations=[2, 2]), w=noise(6, 2, 3, 3)),
    "ConvTranspose": model(
        node("ConvTranspose", "w", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0]), w=noise(4, 5, 3, 3)
    ),
    "BatchNormalization": model(
        node("BatchNormalization", "s", "b", "m", "v", epsilon=1e-3),
        s=noise(4), b=noise(4), m=noise(4), v=abs(noise(4)) + 0.1
    ),
    "InstanceNormalization": model(node("InstanceNormalization", "s", "b"), s=noise(4), b=noise(4)),
    "LayerNormalization": model(node("LayerNormalization", "s", "b", axis=-1), s=noise(8), b=noise(8)),
    "GroupNormalization": model(node("GroupNormalization", "s", "b", num_groups=2), opset=21, s=noise(4), b=noise(4)),
    "LRN": model(node("LRN", size=3, alpha=0.1, beta=0.5, bias=2.0)),
    "PRelu, per channel": model(node("PRelu", "s"), s=noise(4, 1, 1)),
    "PRelu, per pixel": model(node("PRelu", "s"), s=noise(4, 8, 8)),
    "MaxPool, ceil": model(node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    "MaxPool, padded": model(node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])),
    "AveragePool": model(node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    "AveragePool, padding counted": model(
        node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 0, 0], count_include_pad=1)
    ),
    "GlobalAveragePool": model(node("GlobalAveragePool")),
    "GlobalMaxPool": model(node("GlobalMaxPool")),
    "Gemm": model(
        node("Flatten", to="f"), helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0),
        w=noise(7, 256), b=noise(7),
    ),
    "MatMul and Add": model(
        node("MatMul", "w", to="p"), helper.make_node("Add", ["b", "p"], ["y"]), w=noise(8, 5), b=noise(5)
    ),
    "MatMul of two values": model(
        node("Transpose", perm=[0, 1, 3, 2], to="t"), helper.make_node("MatMul", ["x", "t"], ["y"])
    ),
    "HardSigmoid, torch's": model(node("HardSigmoid", alpha=1 / 6)),
    "HardSigmoid, the default": model(node("HardSigmoid")),
    "HardSwish": model(node("HardSwish")),
    "Clip to 6": model(node("Clip", "a", "b"), a=np.float32(0), b=np.float32(6)),
    "Clip from below": model(node("Clip", "a"), a=np.float32(-0.5)),
    "Elu": model(node("Elu", alpha=0.7)),
    "Selu": model(node("Selu")),
    "Softmax, along channels": model(node("Softmax", axis=1)),
    "ReduceMean": model(node("ReduceMean", axes=[2, 3])),
    "ReduceMean, a list of axes": model(node("ReduceMean", "a", keepdims=0), opset=18, a=np.array([-1, -2])),
    "ReduceL2": model(node("ReduceL2", axes=[1])),
    "ReduceMax": model(node("ReduceMax", axes=[1], keepdims=0)),
    "Pow": model(node("Pow", "p"), p=np.float32(2)),
    "Sub from a constant": model(helper.make_node("Sub", ["c", "x"], ["y"]), c=np.float32(1)),
    "Div by channels": model(node("Div", "c"), c=abs(noise(4, 1, 1)) + 1),
    "Max with a constant": model(node("Max", "c"), c=noise(4, 1, 1)),
    "Where": model(
        node("Greater", "c", to="q"), helper.make_node("Where", ["q", "x", "c"], ["y"]), c=np.float32(0.5)
    ),
    "Pad by constants": model(node("Pad", "p"), p=np.array([0, 0, 1, 2, 0, 0, 3, 0])),
    "Pad channels": model(node("Pad", "p"), p=np.array([0, 1, 0, 0, 0, 2, 0, 0])),
    "Pad by reflection": model(node("Pad", "p", mode="reflect"), p=np.array([0, 0, 1, 2, 0, 0, 3, 0])),
    "DepthToSpace, CRD": model(node("DepthToSpace", blocksize=2, mode="CRD")),
    "DepthToSpace, DCR": model(node("DepthToSpace", blocksize=2), shape=(1, 8, 4, 4)),
    "SpaceToDepth": model(node("SpaceToDepth", blocksize=2)),
    "Slice": model(
        node("Slice", "s", "e", "a", "t"),
        s=np.array([1, 0]), e=np.array([4, 2**31]), a=np.array([1, 3]), t=np.array([1, 2])
    ),
    "Slice, reversed": model(
        node("Slice", "s", "e", "a", "t"), s=np.array([-1]), e=np.array([-100]), a=np.array([1]), t=np.array([-1])
    ),
    "Split and Concat": model(
        helper.make_node("Split", ["x", "n"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["y"], axis=1),
        n=np.array([1, 3]),
    ),
    "Gather one": model(node("Gather", "i", axis=1), i=np.array(2)),
    "Gather several": model(node("Gather", "i", axis=1), i=np.array([3, 0])),
    "Resize by whole factors": model(node("Resize", "", "s", mode="nearest"), s=np.array([1, 1, 2, 3], np.float32)),
    "Resize, linear": model(node("Resize", "", "s", mode="linear"), s=np.array([1, 1, 1.5, 2], np.float32)),
    "Resize to a size, corners aligned": model(
        node("Resize", "", "", "s", mode="linear", coordinate_transformation_mode="align_corners"),
        s=np.array([1, 4, 11, 5])
    ),
    "Resize, floor": model(
        node("Resize", "", "s", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        s=np.array([1, 1, 1.5, 0.5], np.float32),
    ),
    "Reshape that holds the batch": model(node("Reshape", "s"), s=np.array([1, 2, 2, 64])),
    "Reshape that flattens": model(node("Reshape", "s"), s=np.array([1, -1])),
    "Reshape by sizes": model(
        node("Shape", to="n"),
        helper.make_node("Gather", ["n", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["x", "sizes"], ["y"]),
        zero=np.array(0), axis=np.array([0]), rest=np.array([2, -1]),
    ),
    "a constant joined to each image": model(
        helper.make_node("Concat", ["c", "x"], ["y"], axis=1), c=noise(1, 2, 8, 8)
    ),
    "GridSample": model(
        helper.make_node("Slice", ["x", "zero", "two", "one"], ["pair"]),
        helper.make_node("Transpose", ["pair"], ["grid"], perm=[0, 2, 3, 1]),
        node("GridSample", "grid", align_corners=1, padding_mode="border"),
        zero=np.array([0]),
        one=np.array([1]),
        two=np.array([2]),
    ),
    "TopK": model(helper.make_node("TopK", ["x", "k"], ["y", "places"], axis=1), k=np.array([3])),
    "LSTM": recurrent("LSTM", 4, 1),
    "LSTM in both directions": recurrent("LSTM", 4, 2, direction="bidirectional"),
    "GRU": recurrent("GRU", 3, 1, linear_before_reset=1),
    "GRU in both directions": recurrent("GRU", 3, 2, direction="bidirectional", linear_before_reset=1),
    "constants that are computed": model(
        helper.make_node("Transpose", ["w"], ["u"], perm=[3, 2, 1, 0]), node("Conv", "u"), w=noise(3, 3, 4, 6)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_a_converted_operator_computes_what_onnx_runtime_does(name: str) -> None:
    data = OPERATORS[name]
    sides = [
        side.dim_value for side in onnx.load_model_from_string(data).graph.input[0].type.tensor_type.shape.dim
    ]
    converted = convert_onnx(data, noise(*sides), fixed=True, source="f.onnx")
    assert converted.agreement_db > 90
    inputs = noise(3, *sides[1:])
    with torch.no_grad():
        ours = converted.network(torch.from_numpy(inputs)).numpy()
    theirs = np.concatenate([plain_run(data, each[None]) for each in inputs])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


class Net(nn.Module):
    """Sizes of tensors decide where things go: the TorchScript exporter writes Shape, Gather, Concat for them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu()
        deep = F.interpolate(self.second(x), size=x.shape[2:], mode="nearest")
        n, c, h, w = x.shape
        mixed = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = torch.cat([mixed, deep], 1)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_network_with_sizes_in_it_is_converted_for_any_size_the_file_accepts(dynamic: bool) -> None:
    torch.manual_seed(0)
    net, buffer = Net().eval(), io.BytesIO()
    axes = {"x": {0: "n", 2: "h", 3: "w"}} if dynamic else None
    torch.onnx.export(
        net, (torch.rand(1, 3, 16, 16),), buffer, dynamo=False, input_names=["x"], dynamic_axes=axes
    )
    converted = convert_onnx(
        buffer.getvalue(), noise(1, 3, 16, 16), fixed=not dynamic, source="f.onnx"
    ).network
    names = {name for name, layer in converted.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}
    assert {"second", "fc"} <= names
    for shape in [(3, 3, 16, 16), *([(2, 3, 24, 32)] if dynamic else [])]:
        inputs = torch.from_numpy(noise(*shape))
        with torch.no_grad():
            torch.testing.assert_close(converted(inputs), net(inputs), rtol=1e-4, atol=1e-5)


class Reader(nn.Module):
    """Reads the columns of an image in both directions; its exporter computes the initial states from the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = nn.LSTM(8, 6, bidirectional=True)
        self.letters = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, _ = self.columns(x.flatten(1, 2).permute(2, 0, 1))
        return self.letters(found).permute(1, 0, 2)


@pytest.mark.filterwarnings("ignore")
def test_a_recurrent_layer_begins_with_zeros_for_a_batch_of_any_size() -> None:
    file = io.BytesIO()
    example = torch.from_numpy(noise(1, 1, 8, 12))
    axes = {"image": {0: "n"}}
    torch.onnx.export(
        Reader().eval(),
        (example,),
        file,
        dynamo=False,
        input_names=["image"],
        dynamic_axes=axes,
        opset_version=17,
    )
    network = convert_onnx(file.getvalue(), example.numpy(), fixed=True, source="f.onnx").network
    assert network(torch.from_numpy(noise(3, 1, 8, 12))).shape == (3, 12, 5)
    assert sum(isinstance(layer, nn.LSTM) for layer in network.modules()) == 1


def test_a_gru_that_torch_does_not_have_is_named() -> None:
    with pytest.raises(InputError, match="it resets before the product"):
        convert_onnx(recurrent("GRU", 3, 1), noise(1, 4, 8, 8), fixed=True, source="f.onnx")


def test_an_operator_without_counterpart_is_named_with_its_node() -> None:
    data = model(node("NonZero", to="n"), helper.make_node("Cast", ["n"], ["y"], to=1))
    with pytest.raises(InputError, match=r"f\.onnx .* NonZero \(node the-NonZero\)"):
        convert_onnx(data, noise(1, 4, 8, 8), fixed=True, source="f.onnx")


def test_a_way_of_computing_that_torch_does_not_have_is_named() -> None:
    data = model(
        node("Resize", "", "s", mode="cubic", antialias=1), opset=18, s=np.array([1, 1, 0.5, 0.5], np.float32)
    )
    with pytest.raises(InputError, match=r"Resize .* it smooths"):
        convert_onnx(data, noise(1, 4, 8, 8), fixed=True, source="f.onnx")


def test_a_converter_that_is_wrong_is_found_and_the_operator_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONVERTERS, "Elu", CONVERTERS["Selu"])
    data = model(node("Elu", to="e"), helper.make_node("Sigmoid", ["e"], ["y"]))
    with pytest.raises(DisagreementError, match=r"differ first at Elu \(the-Elu\)"):
        convert_onnx(data, noise(1, 4, 8, 8), fixed=True, source="f.onnx")


def test_what_mixes_the_images_of_a_batch_is_refused() -> None:
    data = model(node("ReduceMax", axes=[0], to="m"), helper.make_node("Sub", ["x", "m"], ["y"]))
    with pytest.raises(DisagreementError, match="a batch of two images"):
        convert_onnx(data, noise(1, 4, 8, 8), fixed=True, source="f.onnx")


def test_a_file_that_computes_in_integers_is_refused_by_name() -> None:
    data = quantizing_model().SerializeToString()  # type: ignore[attr-defined]
    with pytest.raises(
        InputError, match="computes in integers already: it holds 2 nodes of DequantizeLinear"
    ):
        convert_onnx(data, noise(1, 4, 8, 8), fixed=True, source="f.onnx")


def test_faint_outputs_are_held_to_an_absolute_error() -> None:
    """A sigmoid of -20 is 2e-9 in both, though not to the sixth digit."""
    data = model(node("Add", "c", to="s"), helper.make_node("Sigmoid", ["s"], ["y"]), c=np.float32(-20))
    assert math.isfinite(convert_onnx(data, noise(1, 4, 8, 8), fixed=True, source="f.onnx").agreement_db)


def branching(condition: list[onnx.NodeProto]) -> bytes:
    """x, or twice x where the condition holds."""
    value = helper.make_empty_tensor_value_info
    twice = helper.make_graph([helper.make_node("Add", ["x", "x"], ["a"])], "then", [], [value("a")])
    same = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "else", [], [value("b")])
    chosen = helper.make_node("If", ["q"], ["y"], name="choice", then_branch=twice, else_branch=same)
    return model(*condition, chosen, four=np.int64(4), one=np.int64(1), half=np.float32(0.5))


def test_the_branch_that_sizes_choose_is_converted_and_values_may_choose_none() -> None:
    by_size = [node("Shape", to="s"), helper.make_node("Gather", ["s", "one"], ["c"]),
               helper.make_node("Equal", ["c", "four"], ["q"])]  # fmt: skip
    for fixed in (True, False):
        network = convert_onnx(branching(by_size), noise(1, 4, 8, 8), fixed=fixed, source="f.onnx").network
        torch.testing.assert_close(network(torch.ones(2, 4, 8, 8)), torch.full((2, 4, 8, 8), 2.0))
    by_value = [node("ReduceMean", keepdims=0, to="m"), helper.make_node("Greater", ["m", "half"], ["q"])]
    with pytest.raises(InputError, match=r"If \(node choice\).*depends on the values of 'x'") as refused:
        convert_onnx(branching(by_value), noise(1, 4, 8, 8), fixed=True, source="f.onnx")
    assert "make 'x' a constant in the file" in str(refused.value.hint)


def test_what_is_computed_in_16_bits_is_converted_to_32() -> None:
    data = model(
        helper.make_node("Cast", ["x"], ["h"], to=10),
        helper.make_node("Conv", ["h", "w"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=1),
        w=noise(6, 4, 3, 3).astype(np.float16),
    )
    converted = convert_onnx(data, noise(1, 4, 8, 8), fixed=True, source="f.onnx").network
    assert {each.dtype for each in converted.parameters()} == {torch.float32}


def test_a_side_that_follows_from_the_others_follows_for_other_sizes() -> None:
    """As exporters write group normalization: (0, groups, -1), and back."""
    data = model(
        node("Reshape", "groups", to="r"), helper.make_node("InstanceNormalization", ["r", "s", "b"], ["i"]),
        node("Shape", to="sides"), helper.make_node("Reshape", ["i", "sides"], ["y"]),
        shape=(1, 4, "h", "w"), groups=np.array([0, 2, -1]), s=noise(2), b=noise(2),
    )  # fmt: skip
    network = convert_onnx(data, noise(1, 4, 8, 8), fixed=False, source="f.onnx").network
    inputs = noise(1, 4, 12, 20)
    np.testing.assert_allclose(
        network(torch.from_numpy(inputs)).detach().numpy(), plain_run(data, inputs), atol=1e-5
    )


def test_a_file_that_computes_no_single_sample_is_refused() -> None:
    data = model(node("Relu"), shape=(3, 4, 8, 8))
    with pytest.raises(InputError, match="for one sample"):
        convert_onnx(data, noise(1, 4, 8, 8), fixed=True, source="f.onnx")
