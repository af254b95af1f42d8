"""The exported file: what it computes, what is in it, and that engines run it whole in int8."""

from __future__ import annotations

import copy
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.exported import psnr, run
from support.functions import Function
from support.quantized import (
    Classifier,
    SmallUNet,
    context,
    pictures,
    quantized,
    small_float_file,
    small_symmetric_file,
    small_unet,
    small_unet_file,
)
from zoo.contracts import OutputSpec
from zoo.cost.file_cost import onnx_cost
from zoo.errors import IntegrityError, OutputError, ZooError
from zoo.export.exporter import export_onnx
from zoo.export.int8_coverage import int8_report
from zoo.export.simplify import WEIGHT_ZERO_POINT, ZERO_POINT
from zoo.onnx.symmetric import to_symmetric
from zoo.onnx.uint8 import to_unsigned
from zoo.quantization.prepare import freeze
from zoo_techniques.qat import Qat

onnx = pytest.importorskip("onnx")


class Raw(SmallUNet):
    """Packed RAW to a few numbers."""

    output = OutputSpec(kind="logits", channels=10)


class FixedRaw(Raw):
    """The same for one size."""

    input = dataclasses.replace(SmallUNet.input, fixed_size=True)


def run_as_written(data: bytes, inputs: Tensor) -> Tensor:
    """What the file says, node by node in float, with nothing fused into integer operators."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])


def scale_of(model: object, value: str) -> float:
    """The scale that quantizes `value`, seen from the DequantizeLinear that gives it or the Q that takes it."""
    initializers = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and value in node.output:
            return float(initializers[node.input[1]])
        if node.op_type == "QuantizeLinear" and value == node.input[0]:
            return float(initializers[node.input[1]])
    raise AssertionError(f"{value} is not quantized")


# --------------------------------------------------------------------------------------------------- float


def test_a_float_file_computes_what_torch_does_for_any_batch_and_size() -> None:
    net = SmallUNet().build()
    for shape in ((1, 4, 32, 32), (3, 4, 16, 64), (2, 4, 80, 48)):
        torch.manual_seed(0)
        x = torch.rand(shape)
        assert torch.allclose(run(small_float_file(), x), net(x).clamp(0, 1), atol=1e-5)


def test_initializers_of_a_float_file_are_the_state_dict() -> None:
    state = SmallUNet().build().state_dict()
    model = onnx.load_from_string(small_float_file())
    found = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, value in state.items():
        assert np.array_equal(found[name], value.numpy()), name


def test_half_weights_halve_the_file_and_compute_in_float32() -> None:
    net = SmallUNet().build()
    data = export_onnx(net, SmallUNet(), half_weights=True)
    weights = sum(parameter.numel() for parameter in net.parameters())
    assert 4 * weights - (len(small_float_file()) - len(data)) == pytest.approx(2 * weights, rel=0.05)
    x = pictures(2)
    assert torch.allclose(run(data, x), net(x).clamp(0, 1), atol=2e-3)
    model = onnx.load_from_string(data)
    assert {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16} == set(
        net.state_dict()
    )
    assert "Cast" not in int8_report(data).operators


def test_half_weights_leave_how_far_pictures_are_enlarged_to_be_read() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 12, 3, stride=4, padding=1), nn.Upsample(scale_factor=8), nn.Conv2d(12, 3, 1)
    )
    data = export_onnx(net, SmallUNet(), half_weights=True)
    assert onnx_cost(data, (1, 4, 32, 32)).macs == 64 * 12 * 4 * 9 + 64 * 64 * 12 * 3


def test_normalisation_is_inside_the_file_and_logits_are_not_clipped() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 10, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net[0].weight.data.mul_(20)
    x = torch.rand(3, 3, 64, 96)
    spec = Classifier.input
    normal = (x - torch.tensor(spec.mean).view(1, 3, 1, 1)) / torch.tensor(spec.std).view(1, 3, 1, 1)
    expected = net(normal)
    assert expected.min() < 0
    assert expected.max() > 1
    assert torch.allclose(run(export_onnx(net, Classifier()), x), expected, atol=1e-4)


def test_a_fixed_size_is_in_the_file() -> None:
    class Fixed(Classifier):
        input = type(Classifier.input)(kind="rgb", channels=3, example=(24, 40), fixed_size=True)

    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 40, 10))
    data = export_onnx(net, Fixed())
    shape = onnx.load_from_string(data).graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_param or side.dim_value for side in shape] == ["batch", 3, 24, 40]
    x = torch.rand(2, 3, 24, 40)
    assert torch.allclose(run(data, x), net(x), atol=1e-5)


def test_what_torch_cannot_export_is_a_zoo_error() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float(x.mean().item() > 0.5)

    with pytest.raises(ZooError, match="classifier to ONNX"):
        export_onnx(Odd(), Classifier())


def test_a_path_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing"):
        export_onnx(nn.Conv2d(3, 3, 1), Classifier(), tmp_path / "missing" / "model.onnx")


# ---------------------------------------------------------------------------------------------- every file


@pytest.mark.parametrize("data", [small_float_file, small_unet_file], ids=["float", "int8"])
def test_a_file_holds_nothing_but_the_network(data: object) -> None:
    content = data()
    for trace in (
        b"/work",
        b"/tmp",
        str(Path.cwd()).encode(),
        b"torch",
        b".py",
        b'File "',
        b"forward(",
        b"pkg.",
    ):
        assert trace not in content, trace
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [(opset.domain, opset.version <= 21) for opset in model.opset_import] == [("", True)]
    assert not model.metadata_props
    assert not model.graph.value_info
    assert not model.functions
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        assert not part.metadata_props
        assert not part.doc_string
    assert {node.domain for node in model.graph.node} == {""}
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"head", "down1.conv1", "join4.conv2"} <= set(names)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["input", "output"]


def test_exporting_says_nothing_and_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    module = copy.deepcopy(small_unet()).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    code = module.code
    data = export_onnx(module, SmallUNet())
    assert capfd.readouterr() == ("", "")
    assert module.training
    assert module.code == code
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert data == small_unet_file()


@pytest.mark.slow
def test_another_process_exports_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from support.quantized import small_unet_file, small_float_file;"
        "Path(sys.argv[1]).write_bytes(small_unet_file() + small_float_file())"
    )
    path = tmp_path / "bytes"
    subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONHASHSEED": "4242"},
    )  # fmt: skip
    assert path.read_bytes() == small_unet_file() + small_float_file()


# ---------------------------------------------------------------------------------------------------- int8


def test_all_layers_but_the_last_run_in_int8() -> None:
    report = int8_report(small_unet_file())
    layers = {name for name, layer in small_unet().named_modules() if isinstance(layer, nn.Conv2d)}
    assert set(report.int8) == layers - {"head"}
    assert len(report.int8) == 22
    assert report.float == ("head",)
    islands = {"ConvTranspose", "LeakyRelu", "MaxPool", "Concat", "ReorderInput", "ReorderOutput"}
    assert not islands & report.operators.keys()
    # One at the input, one before the last layer, one in each up-sampling, two in the last shuffle.
    assert report.operators["Transpose"] == 8
    # The last layer's activations and weight.
    assert report.operators["DequantizeLinear"] == 2


def test_the_file_computes_what_training_did() -> None:
    x = pictures(4, seed=3)
    expected = small_unet()(x).clamp(0, 1)
    # A value in the middle between two levels falls to either side by the order of a sum, and takes others with it.
    assert psnr(run_as_written(small_unet_file(), x), expected) > 50
    assert psnr(run(small_unet_file(), x), expected) > 45
    tall = torch.cat([pictures(2), pictures(2, seed=8)], dim=2)
    assert psnr(run(small_unet_file(), tall), small_unet()(tall).clamp(0, 1)) > 45


def everything(net: nn.Module, x: Tensor) -> Tensor:
    """One of each operator that engines compute in int8."""
    x = F.interpolate(F.avg_pool2d(net.a(x), 2), scale_factor=2, mode="nearest")
    one, two = net.b(x).chunk(2, 1)
    x = F.leaky_relu(net.c(F.pad(torch.cat([two, one], 1), (1, 1, 1, 1))), 0.1)
    x = net.e(x * torch.sigmoid(net.d(x.mean((2, 3), keepdim=True))))
    x = net.f(F.max_pool2d(x[:, :, ::2, ::2], 3, 2, 1))
    n, c, h, w = x.shape
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    x = net.g(F.relu(x)) + x
    x = net.j(net.i(x.mean((2, 3))).relu())
    return net.k(x)


def test_every_operator_with_an_int8_form_runs_in_it() -> None:
    torch.manual_seed(0)
    net = Function(
        everything, a=nn.Conv2d(4, 16, 3, padding=1), b=nn.Conv2d(16, 16, 3, padding=1), c=nn.Conv2d(16, 16, 3),
        d=nn.Conv2d(16, 16, 1), e=nn.Conv2d(16, 16, 5, padding=2), f=nn.Conv2d(16, 16, 3, padding=1, groups=16),
        g=nn.Conv2d(16, 16, 1), i=nn.Linear(16, 24), j=nn.Linear(24, 24, bias=False), k=nn.Linear(24, 10),
    ).eval()  # fmt: skip
    x = pictures(3)
    module, where = quantized(net, x)
    assert [left.layer for left in where.skipped_layers] == ["k"]
    data = export_onnx(freeze(module.eval()), Raw())
    report = int8_report(data)
    assert sorted(report.int8) == list("abcdefgijk")
    assert not report.float
    assert report.operators["QuantizeLinear"] == 1  # of the input; nothing goes through float
    assert "DequantizeLinear" not in report.operators
    assert psnr(run_as_written(data, x), module(x)) > 60
    assert psnr(run(data, x), module(x)) > 35
    other = torch.rand(2, 4, 48, 80)
    assert psnr(run(data, other), module(other)) > 35


def test_concatenated_tensors_share_a_scale_in_the_file() -> None:
    model = onnx.load_from_string(small_unet_file())
    concats = [node for node in model.graph.node if node.op_type == "Concat"]
    assert len(concats) == 4
    for node in concats:
        scales = {scale_of(model, value) for value in (*node.input, *node.output)}
        assert len(scales) == 1


def test_int8_weights_take_a_byte_each() -> None:
    model = onnx.load_from_string(small_unet_file())
    weights = [t for t in model.graph.initializer if t.name.endswith(".weight")]
    assert len(weights) == 23
    assert {t.data_type for t in weights} == {onnx.TensorProto.INT8}
    assert sum(len(t.raw_data) for t in weights) == sum(
        parameter.numel() for name, parameter in small_unet().named_parameters() if name.endswith("weight")
    )
    full = export_size_of_the_whole_unet()
    assert full < 0.27 * 4 * 7_760_748


def export_size_of_the_whole_unet() -> int:
    """Bytes of `unet`: its weights, plus what the small one has beside its own."""
    model = onnx.load_from_string(small_unet_file())
    beside = len(small_unet_file()) - sum(len(t.raw_data) for t in model.graph.initializer)
    biases_and_scales = 2 * 4 * 3 * 4000
    return 7_760_748 + beside + biases_and_scales


def test_levels_move_to_the_side_that_activations_reach_farther_to_and_engines_compute_the_same() -> None:
    """LeakyReLU leaves a fifth of the levels below 0; a sum of both signs half."""

    class Leaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = F.leaky_relu(self.one(x - 0.5), 0.2)
            return self.three(torch.cat([F.max_pool2d(x, 3, 1, 1)[:, :2], self.two(x)[:, 2:]], 1))

    torch.manual_seed(0)
    x = pictures(4)
    for bits, symmetric, least in ((8, False, 60), (8, True, 60), (4, False, 60)):
        module, _ = quantized(Leaky().eval(), x, bits=bits, observer="minmax", symmetric=symmetric)
        data = export_onnx(freeze(module.eval()), FixedRaw())
        model = onnx.load_from_string(data)
        initializers = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        zeros = {int(initializers[n.input[2]]) for n in model.graph.node if n.op_type == "QuantizeLinear"}
        assert (zeros == {128}) == (symmetric or bits < 8)
        assert psnr(run_as_written(data, 3 * x), module(3 * x)) > least
        assert psnr(run(to_symmetric(data), x), module(x)) > (45 if bits == 8 else 25)


def test_activations_with_a_sign_share_one_zero_point_and_scales_are_positive() -> None:
    model = onnx.load_from_string(small_symmetric_file())
    initializers = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    signed = f"{ZERO_POINT}_128"
    zero = initializers[signed]
    assert (zero.dtype, zero.shape, int(zero)) == (np.uint8, (), 128)
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert all((initializers[n.input[1]] > 0).all() for n in pairs)
    weights = [n for n in pairs if n.input[0] in initializers]
    assert len(weights) == 23
    assert {n.input[2] for n in pairs if n not in weights} == {signed}
    for node in weights:
        assert initializers[node.input[1]].ndim == 1
        assert node.attribute[0].i == 0
        assert node.input[2].startswith(WEIGHT_ZERO_POINT)
        assert not initializers[node.input[2]].any()


def test_a_constant_among_activations_does_not_keep_them_from_being_shifted() -> None:
    class Marked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 3, 1)
            self.mark = nn.Parameter(torch.linspace(-1, 1, 4).view(1, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            mark = self.mark.expand(x.shape[0], -1, x.shape[2], x.shape[3])
            return self.two(torch.cat([self.one(x).relu(), mark], dim=1))

    x = pictures(3)
    module, _ = quantized(Marked().eval(), x)
    data = export_onnx(freeze(module.eval()), FixedRaw())
    assert psnr(run(data, x), module(x)) > 35
    symmetric = to_symmetric(data)
    assert to_unsigned(symmetric) != symmetric != data
    assert psnr(run(symmetric, x), module(x)) > 35


def test_a_constant_among_activations_and_weights_have_zero_points_of_their_own() -> None:
    class Marked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 3, 1)
            self.mark = nn.Parameter(torch.linspace(-1, 1, 4).view(1, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            mark = self.mark.expand(x.shape[0], -1, x.shape[2], x.shape[3])
            return self.two(torch.cat([self.one(x), mark], dim=1))

    x = pictures(3)
    module, _ = quantized(Marked().eval(), x, per_channel=False)
    data = export_onnx(freeze(module.eval()), FixedRaw())
    assert psnr(run_as_written(data, x), module(x)) > 60


def test_one_scale_for_a_whole_weight_runs_in_int8_too() -> None:
    x = pictures(3)
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7200, 10))
    module, _ = quantized(net, x, per_channel=False)
    data = export_onnx(freeze(module.eval()), FixedRaw())
    assert set(int8_report(data).int8) == {"0", "3"}
    assert psnr(run(data, x), module(x)) > 35


def test_four_bits_are_packed_two_in_a_byte_and_their_range_is_honoured() -> None:
    x = pictures(4)
    module, _ = quantized(SmallUNet().build(), x, bits=4, observer="mse", symmetric=True)
    data = export_onnx(freeze(module.eval()), SmallUNet())
    model = onnx.load_from_string(data)
    weights = [t for t in model.graph.initializer if t.name.endswith(".weight")]
    assert {t.data_type for t in weights} == {onnx.TensorProto.INT4}
    assert all(len(t.raw_data) == -(-int(np.prod(t.dims)) // 2) for t in weights)
    assert max(int(abs(onnx.numpy_helper.to_array(t).astype(int)).max()) for t in weights) == 7
    expected = module(x).clamp(0, 1)
    assert psnr(run_as_written(data, x), expected) > 60
    assert psnr(run(data, x), expected) > 45  # finishing rounded the biases as engines do
    assert len(int8_report(data).int8) == 22


def test_attention_to_values_from_four_bits_loads_in_onnx_runtime_without_our_engine() -> None:
    """Left alone, ONNX Runtime's default optimizations contradict themselves about values that are moved."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.qkv = nn.Conv2d(4, 16, 8, 8), nn.Linear(16, 48)
            self.last = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            n, tokens, c = x.shape
            q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
            return self.last(
                F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, c).mean(1)
            )

    x = pictures(4)
    module, _ = quantized(Attention(), x, bits=4)
    data = export_onnx(freeze(module.eval()), FixedRaw())
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert psnr(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), run_as_written(data, x)) > 60


def test_a_damaged_file_has_no_report() -> None:
    with pytest.raises(IntegrityError):
        int8_report(small_unet_file()[:1000])


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"layers": (1, 1, 1, 1)}),
        ("test_efficientnet", {}),
        *(
            pytest.param(name, {}, marks=pytest.mark.long)
            for name in ("resnet18", "mobilenetv2_100", "efficientnet_b0")
        ),
    ],
)
def test_timm_networks_run_whole_in_int8(name: str, options: dict[str, tuple[int, ...]]) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False, num_classes=10, **options)
    x = torch.randn(8, 3, 64, 64)
    with torch.no_grad():  # statistics that fit the weights
        for layer in net.modules():
            layer.momentum = None  # the mean of all batches
        for _ in range(3):
            net.train()(x)
    where = context(Classifier(), x)
    expected = net.eval()(x)
    technique = Qat()
    module = technique.finish(technique.rewrite(net, where), where)
    assert len(where.skipped_layers) == 1, "the classifier"
    data = export_onnx(module, Classifier())
    report = int8_report(data)
    assert not report.float
    assert len(report.int8) == sum(isinstance(layer, nn.Conv2d) for layer in module.modules()) + 1
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (Classifier.input.mean, Classifier.input.std))
    computed = run(data, x * std + mean)
    # Engines round biases as well, and random networks magnify it: some move as far when a hundred-thousandth
    # is added to the input.
    rounding = (module(x) - expected).std()
    jitter = (module(x + 1e-5 * torch.randn_like(x)) - module(x)).std()
    assert (computed - module(x)).std() < 0.5 * rounding + 2 * jitter


def test_a_network_too_large_for_a_file_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large:
        """What protobuf does with more than 2 GiB, without having them."""

        graph = onnx.GraphProto()

        def SerializeToString(self, *, deterministic: bool) -> bytes:  # noqa: N802
            from google.protobuf.message import EncodeError

            raise EncodeError("Failed to serialize proto")

    monkeypatch.setattr("zoo.export.exporter._export", lambda *_: Large())
    monkeypatch.setattr("zoo.export.exporter.simplify_model", lambda *_, **__: None)
    with pytest.raises(ZooError, match="one ONNX file: Failed to serialize") as caught:
        export_onnx(nn.Conv2d(4, 4, 1), Raw())
    assert "2 GiB" in str(caught.value)
