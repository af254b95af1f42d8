"""Parameters and multiply-accumulates, against numbers worked out by hand."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo.architectures.timm_models import TimmArchitecture
from zoo.architectures.unet import (
    LighterUNetArchitecture,
    LightUNetArchitecture,
    UNetArchitecture,
)
from zoo.architectures.unet_module import DoubleConv
from zoo.contracts import Architecture, Context, InputSpec, OutputSpec
from zoo.cost import LayerCost, model_cost, onnx_cost
from zoo.errors import InputError, IntegrityError, UsageError
from zoo.export.exporter import export_onnx
from zoo_techniques.qat import Qat


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


# ------------------------------------------------------------------------------------------------ torch modules


@pytest.mark.parametrize(
    ("architecture", "crop", "frame"),
    [
        (UNetArchitecture, 12_113_149_952, 560_091_234_304),
        (LightUNetArchitecture, 7_353_270_272, 340_002_578_944),
        (LighterUNetArchitecture, 1_999_437_824, 92_450_568_448),
    ],
)
def test_unets_cost_what_was_counted_by_hand(
    architecture: type[UNetArchitecture], crop: int, frame: int
) -> None:
    """A 512 x 512 RAW, and a whole See-in-the-Dark frame."""
    with torch.device("meta"):
        net = architecture().build()
    assert model_cost(net, meta(1, 4, 256, 256)).macs == crop
    assert model_cost(net, meta(1, 4, 1424, 2128)).macs == frame


def test_unet_by_formula() -> None:
    """Every convolution: output pixels x 9 x in x out; transposed: input pixels x 4 x in x out; the head."""
    pixels, macs = 256 * 256, 0
    widths = (4, 32, 64, 128, 256, 512)
    for depth, (before, width) in enumerate(itertools.pairwise(widths)):
        macs += (pixels >> 2 * depth) * 9 * (before * width + width * width)
        if depth < 4:
            macs += (pixels >> 2 * depth) * 9 * (2 * width * width + width * width)
            macs += (pixels >> 2 * (depth + 1)) * 4 * (2 * width * width)
    macs += pixels * 32 * 12
    assert macs == 12_113_149_952


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "kind"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 8, 10), 80 * 6 * 4 * 9, "conv"),
        (nn.Conv2d(4, 6, (3, 5), stride=2), (2, 4, 9, 11), 2 * 4 * 4 * 6 * 4 * 15, "conv"),
        (nn.Conv2d(4, 8, 3, groups=4, dilation=2), (1, 4, 9, 9), 25 * 8 * 9, "conv"),
        (nn.Conv1d(4, 6, 3), (1, 4, 12), 10 * 6 * 4 * 3, "conv"),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 7), 35 * 4 * 6 * 4, "transposed conv"),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1), (1, 4, 5, 7), 35 * 4 * 6 * 9, "transposed conv"),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 5, 7), 35 * 4 * 3 * 9, "transposed conv"),
        (nn.Linear(7, 5), (3, 7), 3 * 35, "linear"),
        (nn.Linear(7, 5, bias=False), (2, 3, 7), 6 * 35, "linear"),
        (nn.Linear(7, 5), (2, 3, 4, 7), 24 * 35, "linear"),
    ],
    ids=str,
)
def test_single_layers(layer: nn.Module, shape: tuple[int, ...], macs: int, kind: str) -> None:
    parameters = sum(p.numel() for p in layer.parameters())
    for inputs in (torch.rand(shape), meta(*shape)):
        cost = model_cost(nn.Sequential(layer), inputs)
        assert cost.layers == (LayerCost("0", kind, parameters, macs),)
        assert (cost.macs, cost.parameters, cost.matmul_macs) == (macs, parameters, 0)


def test_attention_is_split_into_linear_layers_and_products_of_activations() -> None:
    """Length 9, 8 channels, 2 heads: three projections in, one out; Q times K and the scores times V."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attend(x, x, x)[0]

    for inputs in (torch.rand(2, 9, 8), meta(2, 9, 8)):
        cost = model_cost(Attention(), inputs)
        assert cost.macs == 2 * 9 * 4 * 8 * 8
        assert cost.matmul_macs == 2 * 2 * 9 * 9 * 8


def test_timm_networks_match_the_published_counts() -> None:
    macs = {}
    for name in ("resnet18", "mobilenetv2_100"):
        with torch.device("meta"):
            net = TimmArchitecture(name).build()
        cost = model_cost(net, meta(1, 3, 224, 224))
        macs[name] = (cost.parameters, cost.macs)
    assert macs == {"resnet18": (11_689_512, 1_814_073_344), "mobilenetv2_100": (3_504_872, 300_774_272)}


class Functional(nn.Module):
    """A convolution without a module, with a weight that is computed, and one module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, 4, 3, 3))
        self.inner = nn.Conv2d(6, 6, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        rounded = torch.fake_quantize_per_tensor_affine(self.weight, 0.01, 0, -128, 127)
        return self.norm(self.inner(self.inner(functional.conv2d(x, rounded))))


def test_what_counts_is_the_operator_not_the_module() -> None:
    cost = model_cost(Functional(), torch.rand(1, 4, 6, 6))
    assert cost.macs == 16 * 6 * 4 * 9 + 2 * 16 * 36
    assert cost.parameters == 6 * 4 * 9 + 36 + 12
    assert [(layer.name, layer.macs) for layer in cost.layers] == [("", 3456), ("inner", 1152), ("norm", 0)]
    traced = model_cost(fx.symbolic_trace(Functional()), torch.rand(1, 4, 6, 6))
    assert (traced.macs, traced.parameters) == (cost.macs, cost.parameters)
    with torch.inference_mode():
        assert model_cost(Functional(), torch.rand(1, 4, 6, 6)) == cost


def test_counting_leaves_the_network_as_it_was() -> None:
    net = Functional().train()
    net.inner.eval()
    net.norm.num_batches_tracked += 3
    before = copy.deepcopy(net.state_dict())
    model_cost(net, torch.rand(1, 4, 6, 6))
    model_cost(net.inner, meta(1, 6, 6, 6))
    assert [net.training, net.inner.training, net.norm.training] == [True, False, True]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert {value.device.type for value in net.state_dict().values()} == {"cpu"}
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_shared_parameters_are_counted_once() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    net[2] = net[0]
    held = list(net[0].parameters())
    for inputs in (torch.rand(1, 4), meta(1, 4)):
        assert model_cost(net, inputs).parameters == 16 + 4 + 4
        assert net[0].weight is net[1].weight is held[0]


# ---------------------------------------------------------------------------------------------- exported files


class TinyArchitecture(Architecture):
    """Two stages of a U-Net, with a normalised input to see that the constants are not taken for weights."""

    id = "tiny"
    summary = "for tests"
    task = "raw-to-rgb"
    input = InputSpec("packed-raw", 4, multiple_of=2, example=(16, 24), mean=(0.4,) * 4, std=(0.2,) * 4)
    output = OutputSpec("rgb", 3, scale=2)

    def build(self) -> nn.Module:
        return TinyUNet()


class TinyUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = DoubleConv(4, 8, (False, True))
        self.bottom = DoubleConv(8, 16, (True, False))
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.join = DoubleConv(16, 8, (False, False))
        self.head = nn.Conv2d(8, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.up(self.bottom(functional.max_pool2d(skip, 2)))
        return functional.pixel_shuffle(self.head(self.join(torch.cat([deep, skip], 1))), 2)


@pytest.mark.parametrize("half", [False, True])
def test_exported_float_file_costs_what_the_module_does(half: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, path = TinyUNet(), tmp_path / "model.onnx"
    data = export_onnx(net, TinyArchitecture(), path, half_weights=half)
    for shape in ((1, 4, 16, 24), (2, 4, 32, 8)):
        wanted = model_cost(net, meta(*shape))
        cost = onnx_cost(path, shape)
        assert (cost.parameters, cost.macs, cost.matmul_macs) == (wanted.parameters, wanted.macs, 0)
        assert cost.bytes == len(data) == path.stat().st_size
        assert {layer.kind for layer in cost.layers} == {"conv", "transposed conv"}
        assert onnx_cost(data, shape) == cost


def test_exported_int8_file_costs_what_the_float_module_does() -> None:
    """Scales and zero points are no parameters; lowering the transposed convolution repeats its bias four times."""
    torch.manual_seed(0)
    net, technique = TinyUNet().eval(), Qat()
    wanted = model_cost(net, meta(1, 4, 16, 24))
    example = torch.rand(1, 4, 16, 24)
    ctx = Context(TinyArchitecture(), example, lambda: [example])
    rounded = technique.rewrite(net, ctx)
    assert model_cost(rounded, example).macs == wanted.macs
    assert model_cost(rounded, example).parameters == wanted.parameters + 3 * 8
    cost = onnx_cost(export_onnx(technique.finish(rounded, ctx), TinyArchitecture()), (1, 4, 16, 24))
    assert cost.macs == wanted.macs
    assert cost.parameters == wanted.parameters + 3 * 8


def graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray[Any, Any]],
    shape: tuple[int | str, ...] = ("N", 4, "H", "W"),
    kind: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
) -> bytes:
    """A model from "x" to "y"."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", result, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


def i8(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.int8)


def node(operator: str, *inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], name=f"{operator}_{output}", **attributes)


CONV_MACS = 6 * 8 * 6 * 4 * 9
SCALES = {"s": np.float32(1), "z": np.int8(0), "sw": f32(6), "zw": i8(6)}


@pytest.mark.parametrize(
    ("data", "shape", "parameters", "macs"),
    [
        (graph([node("Conv", "x", "w", "b")], {"w": f32(6, 4, 3, 3), "b": f32(6)}), (1, 4, 8, 10), 222, CONV_MACS),
        (
            graph([node("Conv", "x", "w", group=2, strides=[2, 2])], {"w": f32(6, 2, 3, 3)}),
            (1, 4, 9, 9),
            108,
            16 * 108,
        ),
        (
            graph([node("ConvTranspose", "x", "w", group=2, strides=[2, 2])], {"w": f32(4, 3, 2, 2)}),
            (1, 4, 5, 7),
            48,
            35 * 48,
        ),
        (
            graph([node("Gemm", "x", "w", "b", transA=1, transB=1)], {"w": f32(5, 7), "b": f32(5)}, (7, "N")),
            (7, 3),
            40,
            3 * 35,
        ),
        (
            graph(
                [node("MatMul", "x", "w", output="m"), node("Add", "m", "b")],
                {"w": f32(7, 5), "b": f32(5)},
                ("N", 3, 7),
            ),
            (2, 3, 7),
            40,
            6 * 35,
        ),
        (
            graph(
                [
                    node("DequantizeLinear", "q", "sw", "zw", output="w", axis=0),
                    node("DequantizeLinear", "qb", "sb", output="b"),
                    node("Conv", "x", "w", "b"),
                ],
                {"q": i8(6, 4, 3, 3), "qb": np.zeros(6, np.int32), "sb": np.float32(1), **SCALES},
            ),
            (1, 4, 8, 10),
            222,
            CONV_MACS,
        ),
        (
            graph(
                [node("Cast", "h", output="w", to=TensorProto.FLOAT), node("Conv", "x", "w")],
                {"h": np.zeros((6, 4, 3, 3), np.float16)},
            ),
            (1, 4, 8, 10),
            216,
            CONV_MACS,
        ),
        (
            graph(
                [node("QLinearConv", "x", "s", "z", "w", "sw", "zw", "s", "z", "b")],
                {"w": i8(6, 4, 3, 3), "b": np.zeros(6, np.int32), **SCALES},
                kind=TensorProto.INT8,
                result=TensorProto.INT8,
            ),
            (1, 4, 8, 10),
            222,
            CONV_MACS,
        ),
        (
            graph(
                [node("ConvInteger", "x", "w", "z", "z")],
                {"w": i8(6, 4, 3, 3), **SCALES},
                kind=TensorProto.INT8,
                result=TensorProto.INT32,
            ),
            (1, 4, 8, 10),
            216,
            CONV_MACS,
        ),
        (
            graph(
                [node("MatMulInteger", "x", "w", "z", "z")],
                {"w": i8(7, 5), **SCALES},
                ("N", 7),
                TensorProto.INT8,
                TensorProto.INT32,
            ),
            (3, 7),
            35,
            3 * 35,
        ),
        (
            graph(
                [node("QLinearMatMul", "x", "s", "z", "w", "s", "z", "s", "z")],
                {"w": i8(7, 5), **SCALES},
                ("N", 7),
                TensorProto.INT8,
                TensorProto.INT8,
            ),
            (3, 7),
            35,
            3 * 35,
        ),
        (
            graph(
                [node("Conv", "x", "w", output="a"), node("Conv", "a", "w")],
                {"w": f32(4, 4, 1, 1)},
            ),
            (1, 4, 5, 5),
            16,
            2 * 25 * 16,
        ),
        (
            graph(
                [
                    node("Constant", output="w", value=numpy_helper.from_array(f32(6, 4, 3, 3))),
                    node("Constant", output="half", value_float=0.5),
                    node("Conv", "x", "w", output="c"),
                    node("Mul", "c", "half"),
                ],
                {},
            ),
            (1, 4, 8, 10),
            216,
            CONV_MACS,
        ),
        (
            graph(
                [
                    node("Sub", "x", "mean", output="a"),
                    node("Div", "a", "std", output="b"),
                    node("Conv", "b", "w", output="c"),
                    node("BatchNormalization", "c", "g", "g2", "m", "v", output="d"),
                    node("Mul", "d", "gain", output="e"),
                    node("PRelu", "e", "slope"),
                ],
                {"mean": f32(1, 4, 1, 1), "std": f32(1, 4, 1, 1), "w": f32(6, 4, 3, 3), "g": f32(6), "g2": f32(6)}
                | {"m": f32(6), "v": f32(6), "gain": f32(6, 1, 1), "slope": f32(6, 1, 1)},
            ),
            (1, 4, 8, 10),
            216 + 6 + 6 + 6 + 6,
            CONV_MACS,
        ),
    ],
    ids=[
        "conv", "grouped conv", "grouped transposed conv", "gemm", "matmul and bias", "int8 weights", "fp16 weights",
        "QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul", "shared weight", "constant nodes",
        "normalised input, batch norm, gain, slope",
    ],
)  # fmt: skip
def test_operators_of_a_file(data: bytes, shape: tuple[int, ...], parameters: int, macs: int) -> None:
    cost = onnx_cost(data, shape)
    assert (cost.parameters, cost.macs, cost.matmul_macs) == (parameters, macs, 0)
    assert cost.bytes == len(data)


def test_product_of_two_activations_is_counted_apart() -> None:
    data = graph(
        [node("Transpose", "x", output="t", perm=[0, 2, 1]), node("MatMul", "x", "t")], {}, ("N", 9, 8)
    )
    cost = onnx_cost(data, (2, 9, 8))
    assert (cost.macs, cost.matmul_macs, cost.parameters) == (0, 2 * 81 * 8, 0)


def test_vision_transformer_file_costs_what_the_module_does() -> None:
    architecture = TimmArchitecture("test_vit")
    net = architecture.build().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():  # or the exporter merges the many equal initial biases into one
            parameter.normal_()
    wanted = model_cost(net, meta(1, 3, 160, 160))
    cost = onnx_cost(export_onnx(net, architecture), (1, 3, 160, 160))
    assert (cost.macs, cost.matmul_macs) == (wanted.macs, wanted.matmul_macs)
    assert cost.parameters == wanted.parameters


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (4, 8, 8), (1, 4, 8, 8, 1)])
def test_input_that_the_file_does_not_take_is_refused(shape: tuple[int, ...]) -> None:
    data = graph([node("Conv", "x", "w")], {"w": f32(6, 4, 3, 3)})
    with pytest.raises(UsageError, match=r"expects an input of \(any, 4, any, any\)"):
        onnx_cost(data, shape)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    good = graph([node("Conv", "x", "w")], {"w": f32(6, 4, 3, 3)})
    for bad in (b"", b"not onnx", good[: len(good) // 2]):
        with pytest.raises(IntegrityError):
            onnx_cost(bad, (1, 4, 8, 8))
    with pytest.raises(InputError, match="cannot be read"):
        onnx_cost(tmp_path / "absent.onnx", (1, 4, 8, 8))
    with pytest.raises(InputError, match="cannot be read"):
        onnx_cost(tmp_path, (1, 4, 8, 8))


def test_rows_picked_by_computed_indices_are_counted() -> None:
    """Every second row and the one after it, as unfolding a picture does: how many is known once sizes are numbers."""
    i64 = functools.partial(np.array, dtype=np.int64)
    nodes = [
        node("Shape", "x", output="sides"),
        node("Gather", "sides", "two", output="height"),
        node("Range", "zero", "height", "two", output="rows"),
        node("Unsqueeze", "rows", "one", output="column"),
        node("Add", "column", "pair", output="index"),
        node("Gather", "x", "index", output="windows", axis=2),
        node("MatMul", "windows", "w"),
    ]
    numbers = {"zero": i64(0), "two": i64(2), "one": i64([1]), "pair": i64([[0, 1]]), "w": f32(10, 5)}
    assert onnx_cost(graph(nodes, numbers), (1, 4, 8, 10)).macs == 4 * 8 * 10 * 5


class Scaled(nn.Module):
    """Layers behind sums whose size the file finds out when it runs, each from the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x * torch.rsqrt(x.var(1, keepdim=True) + 1e-6))
        return x


def test_sizes_are_derived_through_as_many_layers_as_there_are() -> None:
    net = Scaled().eval()
    data = export_onnx(net, TinyArchitecture())
    assert onnx_cost(data, (1, 4, 16, 16)).macs == model_cost(net, torch.zeros(1, 4, 16, 16)).macs


class RoundedUp(nn.Module):
    """Resizes to the next multiple of 8, which it finds with fractions."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.scale = nn.Conv2d(4, 4, 3, padding=1), nn.Parameter(torch.tensor([0.5]))

    def forward(self, x: Tensor) -> Tensor:
        size = [math.ceil(side / 8) * 8 for side in x.shape[2:]]
        return self.inside(functional.interpolate(x, size=size, mode="bilinear")) * self.scale


def test_sizes_are_derived_through_fractions() -> None:
    data = export_onnx(RoundedUp().eval(), TinyArchitecture())
    cost = onnx_cost(data, (1, 4, 12, 20))
    assert cost.macs == 4 * 4 * 9 * 16 * 24
    assert cost.parameters == 4 * 4 * 9 + 4


def test_size_that_cannot_be_derived_is_named() -> None:
    """How many entries are not zero is known only when the network runs."""
    nodes = [
        node("NonZero", "x", output="where"),
        node("Cast", "where", output="f", to=1),
        node("MatMul", "w", "f"),
    ]
    with pytest.raises(IntegrityError, match="size of 'y', which MatMul 'MatMul_y' uses"):
        onnx_cost(graph(nodes, {"w": f32(5, 4)}), (1, 4, 8, 8))


def test_package_imports_neither_torch_nor_onnx() -> None:
    code = "import sys, zoo.cost; print([name for name in ('torch', 'onnx', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
