"""Post-training quantization: what it computes, what its files hold, and that nothing is trained."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from support.exported import psnr
from support.exported import run as run_file
from support.functions import Function
from support.quantized import Classifier, SmallUNet, context, pictures
from support.small_net import run
from zoo.artifacts.artifact import open_artifact
from zoo.contracts import Architecture, Context, SilentReporter
from zoo.cost import model_cost, onnx_cost
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import LegalityError, UsageError
from zoo.export.exporter import export_onnx
from zoo.export.int8_coverage import int8_report
from zoo.options import parse_options
from zoo.pipeline.api import apply
from zoo.pipeline.result import Result
from zoo.pipeline.stages import share_budgets, stages_of
from zoo.quantization.bias import correct_biases
from zoo.quantization.dynamic import DynamicConv2d, DynamicRound
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.quantized_layers import QuantConv2d
from zoo.quantization.quantizer_switches import rounding_off
from zoo.recipes import recipe_toml
from zoo.recipes.canonical import resolve
from zoo.recipes.grammar import parse
from zoo.training.schedule import Budget
from zoo_techniques.ptq import Ptq, PtqConfig
from zoo_techniques.qat import Qat
from zoo_techniques.qat.technique import QatConfig

onnx = pytest.importorskip("onnx")


def applied(
    net: nn.Module, x: Tensor, architecture: Architecture | None = None, **options: object
) -> tuple[fx.GraphModule, Context]:
    """`net` after both steps of `ptq`, calibrated on `x`."""
    where = context(architecture or SmallUNet(), x)
    technique = Ptq(PtqConfig(**options))  # type: ignore[arg-type]
    module = technique.rewrite(copy.deepcopy(net).eval(), where)
    return technique.finish(module.eval(), where), where  # type: ignore[return-value]


def mixed() -> nn.Module:
    """Strided, dilated, depthwise and padded convolutions, a norm, a pool and linear layers."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=8, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(8, 8, (3, 1), padding=(1, 0), padding_mode="reflect"), nn.ConvTranspose2d(8, 6, 2, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 10),
    ).eval()  # fmt: skip


def normalised(x: Tensor) -> Tensor:
    spec = Classifier.input
    return (x - torch.tensor(spec.mean).view(1, 3, 1, 1)) / torch.tensor(spec.std).view(1, 3, 1, 1)


# -------------------------------------------------------------------------------------------------- static


def test_the_static_file_computes_what_torch_does_in_integers() -> None:
    torch.manual_seed(1)
    x, more = torch.rand(8, 3, 64, 64).split(4)
    net, where = applied(mixed(), normalised(x), Classifier())
    data = export_onnx(net, Classifier())
    assert psnr(run_file(data, more), net(normalised(more))) > 30
    assert psnr(run_file(data, more), mixed()(normalised(more))) > 25
    report = int8_report(data)
    assert report.float == ()
    assert len(report.int8) == 6
    assert [left.layer for left in where.skipped_layers] == ["5_pad", "11"]


def test_the_file_is_the_one_that_qat_writes_before_it_trains() -> None:
    x = torch.rand(4, 3, 64, 64)
    where = context(Classifier(), x)
    options = {"observer": "minmax", "bits": 6}
    trained = Qat(QatConfig(**options))  # type: ignore[arg-type]
    files = [
        export_onnx(trained.finish(trained.rewrite(mixed(), where).eval(), where), Classifier()),
        export_onnx(applied(mixed(), x, Classifier(), bias_correction=False, **options)[0], Classifier()),
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("observer", ["minmax", "moving-average", "percentile", "entropy", "mse"])
def test_every_observer_keeps_a_network_close_to_what_it_was(observer: str) -> None:
    x = pictures(4, seed=5)
    net = SmallUNet().build()
    module, _ = applied(net, pictures(4), observer=observer)
    assert psnr(module(x), net(x)) > 35


def test_the_percentile_is_that_of_the_option() -> None:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole, cut = (
        applied(mixed(), x, Classifier(), observer="percentile", percentile=p, bias_correction=False)[0]
        for p in (100.0, 90.0)
    )
    exact, _ = applied(mixed(), x, Classifier(), observer="minmax", bias_correction=False)
    scales = [
        torch.cat([m.scale for m in net.modules() if isinstance(m, FakeQuantize) and not m.weight])
        for net in (whole, exact, cut)
    ]
    assert torch.allclose(scales[0], scales[1], rtol=1e-3)
    assert (scales[2] <= scales[1]).all()
    assert (scales[2] / scales[1]).median() < 0.8


def test_weights_follow_the_observer_if_it_is_for_weights_and_can_have_their_own() -> None:
    x = torch.rand(1, 3, 32, 32)
    for options, expected in (
        ({"observer": "mse"}, "mse"),
        ({"observer": "entropy"}, "minmax"),
        ({"observer": "minmax", "weight_observer": "mse"}, "mse"),
    ):
        net, _ = applied(mixed(), x, Classifier(), bias_correction=False, **options)
        assert {m.observer for m in net.modules() if isinstance(m, FakeQuantize) and m.weight} == {expected}


def test_scales_by_channel_beat_one_scale_where_channels_differ() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 1)).eval()
    with torch.no_grad():
        spread = torch.logspace(-3, 0, 16)
        net[0].weight.mul_(spread.view(-1, 1, 1, 1))
        net[0].bias.mul_(spread)
        net[2].weight.mul_(torch.logspace(-2, 0, 12).view(-1, 1, 1, 1))
    x = pictures(4)
    by_channel, by_tensor = (
        psnr(applied(net, x, per_channel=each, bias_correction=False, equalize=False)[0](x), net(x))
        for each in (True, False)
    )
    assert by_channel > by_tensor + 6
    first = net[0](x)

    def error(module: fx.GraphModule) -> Tensor:
        layer = module.get_submodule("0")
        rounded = nn.functional.conv2d(x, layer.weight, net[0].bias, padding=1)
        return (rounded - first).square().mean((0, 2, 3)) / first.var((0, 2, 3))

    whole, parts = (
        error(applied(net, x, per_channel=e, bias_correction=False, equalize=False)[0]) for e in (False, True)
    )
    assert whole[0] > 0.5
    assert parts.max() < 0.01


# ----------------------------------------------------------------------------------------- bias correction


def test_a_shift_that_rounding_makes_is_put_into_the_bias() -> None:
    """Of each row one weight is large; the others lie 0.4 steps above a level, and rounding takes that away."""
    net = nn.Sequential(nn.Conv2d(8, 5, 1, bias=False), nn.Identity()).eval()
    with torch.no_grad():
        net[0].weight.fill_(0.4)
        net[0].weight[:, 0] = 127.0
    x = torch.rand(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    plain, corrected = (applied(net, x, observer="minmax", bias_correction=each)[0] for each in (False, True))
    shift = (net(x) - plain(x)).mean((0, 2, 3))
    expected = 0.4 * x[:, 1:].sum(1).mean()
    assert torch.allclose(shift, expected.expand(5), rtol=0.02)
    step = 1 / 127  # finishing puts biases on the steps of engines: input scale times weight scale
    assert (net(x) - corrected(x)).mean((0, 2, 3)).abs().max() <= step / 2 + 1e-5
    assert torch.allclose(corrected.get_submodule("0").bias, shift, atol=step)


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_after_correction_every_layers_mean_is_that_of_the_float_net(mode: str) -> None:
    x = torch.rand(6, 3, 64, 64)

    def means(corrected: bool, rounding: bool) -> dict[str, Tensor]:
        options = PtqConfig(mode=mode, weight_bits=3, bias_correction=corrected)  # type: ignore[arg-type]
        module = Ptq(options).rewrite(mixed(), context(Classifier(), x))
        found: dict[str, Tensor] = {}
        for name, layer in module.named_modules():
            if hasattr(layer, "weight_quantizer"):
                layer.register_forward_hook(
                    lambda _, i, o, name=name: found.update({name: o.transpose(0, 1).flatten(1).mean(1)})
                )
        with contextlib.nullcontext() if rounding else rounding_off(module):
            module(x)
        return found

    exact, shifted, corrected = means(False, False), means(False, True), means(True, True)
    assert len(exact) == 6
    for name, mean in exact.items():
        assert torch.allclose(corrected[name], mean, atol=2e-5), name
    assert any(not torch.allclose(shifted[name], mean, atol=1e-2) for name, mean in exact.items())


def test_layers_called_twice_are_not_corrected_and_named() -> None:
    net = Function(
        lambda n, x: n.last(n.twice(n.twice(x))), twice=nn.Conv2d(4, 4, 1), last=nn.Conv2d(4, 4, 1)
    ).eval()
    before = net.twice.bias.detach().clone()
    where = context(SmallUNet(), pictures(2))
    module = Ptq(PtqConfig(weight_bits=3)).rewrite(copy.deepcopy(net), where)
    assert torch.equal(module.twice.bias, before)
    assert not torch.equal(module.last.bias, net.last.bias)
    assert {"twice": "called 2 times: its bias is not corrected"}.items() <= {
        left.layer: left.reason for left in where.skipped_layers
    }.items()


def test_correcting_leaves_the_rounding_switched_on() -> None:
    where = context(SmallUNet(), pictures(2))
    module = Ptq(PtqConfig(bias_correction=False)).rewrite(SmallUNet().build(), where)
    assert isinstance(module, fx.GraphModule)
    count = correct_biases(module, [pictures(1), pictures(2, seed=3)], lambda *what: None)
    assert count == sum(isinstance(m, QuantConv2d) for m in module.modules()) == 23
    assert {m.mode for m in module.modules() if isinstance(m, FakeQuantize)} == {"quantize"}


# ------------------------------------------------------------------------------------------------- dynamic


@functools.cache
def dynamic() -> tuple[fx.GraphModule, bytes]:
    torch.manual_seed(1)
    net, _ = applied(mixed(), normalised(torch.rand(4, 3, 64, 64)), Classifier(), mode="dynamic")
    return net, export_onnx(net, Classifier())


def test_the_dynamic_file_computes_exactly_what_torch_does() -> None:
    net, data = dynamic()
    for shape in ((4, 3, 64, 64), (1, 3, 96, 32)):
        torch.manual_seed(2)
        x = torch.rand(shape)
        assert psnr(run_file(data, x), net(normalised(x))) > 80
        assert psnr(run_file(data, x), mixed()(normalised(x))) > 35


def test_all_layers_of_a_dynamic_file_multiply_integers_of_a_byte() -> None:
    _, data = dynamic()
    assert int8_report(data).float == ()
    assert len(int8_report(data).int8) == 6
    model = onnx.load_from_string(data)
    used = {node.op_type for node in model.graph.node}
    assert {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"} <= used
    assert not used & {"Conv", "Gemm", "MatMul", "QuantizeLinear"}
    sizes = {t.name: t.data_type for t in model.graph.initializer if t.name.endswith(".weight")}
    assert len(sizes) == 6
    assert set(sizes.values()) == {onnx.TensorProto.UINT8}


def test_the_cost_of_a_dynamic_file_is_that_of_the_network() -> None:
    net, data = dynamic()
    cost = onnx_cost(data, (1, 3, 64, 64))
    parameters = sum(p.numel() for name, p in net.named_parameters() if "quantizer" not in name)
    assert cost.parameters == parameters
    assert cost.macs == model_cost(net, torch.zeros(1, 3, 64, 64)).macs


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 1.0, -1.0]), st.sampled_from([1e-3, 1.0, 1e3]))
def test_dynamic_rounding_is_that_of_the_onnx_operator(seed: int, shift: float, size: float) -> None:
    x = ((np.random.default_rng(seed).random((2, 3, 5)) - 0.5 + shift) * size).astype(np.float32)
    operator = pytest.importorskip("onnx.reference.ops.op_dynamic_quantize_linear").DynamicQuantizeLinear
    levels, scale, zero = operator.eval(x)
    expected = (levels.astype(np.float32) - np.float32(zero)) * scale
    assert np.abs(
        DynamicRound()(torch.from_numpy(x)).numpy() - expected
    ).max() <= 1e-6 * size + 1.01 * scale * (np.abs(levels.astype(float) - zero).max() < 1)


def test_a_tensor_of_zeros_stays_one() -> None:
    assert torch.equal(DynamicRound()(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_dynamic_ranges_follow_the_input() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    x = pictures(2)
    for mode, least in (("dynamic", 30), ("static", None)):
        module, _ = applied(net, x, mode=mode, bias_correction=False)
        found = psnr(module(1000 * x), net(1000 * x))
        assert found > 30 if least else found < 15, mode
    assert isinstance(applied(net, x, mode="dynamic")[0].get_submodule("0"), DynamicConv2d)


# ------------------------------------------------------------------------------------- options, legality, data


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="rounds activations to 8 bits, not 4"):
        parse_options("ptq", PtqConfig, {"mode": "dynamic", "bits": "4"})
    with pytest.raises(UsageError, match="one of auto, minmax"):
        parse_options("ptq", PtqConfig, {"observer": "lsq"})
    with pytest.raises(UsageError, match="50 to 100"):
        parse_options("ptq", PtqConfig, {"percentile": "0.99"})


@pytest.mark.parametrize("recipe", ["ptq+qat", "qat+ptq", "ptq+fixed-point", "fixed-point+ptq"])
def test_one_recipe_changes_the_arithmetic_once(recipe: str) -> None:
    with pytest.raises(LegalityError, match="cannot share a recipe"):
        resolve(parse(recipe))


def test_structure_comes_first() -> None:
    resolve(parse("depthwise+ptq"))
    with pytest.raises(LegalityError, match=r"did you mean depthwise\+ptq"):
        resolve(parse("ptq+depthwise"))


@pytest.mark.parametrize(
    ("mode", "what"), [("static", "ranges come"), ("dynamic", "corrections of biases come")]
)
def test_without_data_the_example_input_serves_and_that_is_said(mode: str, what: str) -> None:
    report = SilentReporter()
    where = Context(SmallUNet(), pictures(1), report=report)
    Ptq(PtqConfig(mode=mode)).rewrite(SmallUNet().build(), where)  # type: ignore[arg-type]
    assert report.notes[0] == f"ptq: no calibration data; the {what} from the one example input"


def test_a_dynamic_file_without_correction_needs_no_data() -> None:
    report = SilentReporter()
    where = Context(SmallUNet(), pictures(1), calibration=lambda: pytest.fail("data was read"), report=report)
    Ptq(PtqConfig(mode="dynamic", bias_correction=False)).rewrite(SmallUNet().build(), where)
    assert report.notes == []


def test_quantizing_imports_nothing_of_training() -> None:
    program = (
        "import sys, torch\n"
        "from zoo.contracts import Context\n"
        "from zoo_techniques.ptq import Ptq\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 1)).eval()\n"
        "where = Context(None, torch.rand(1, 4, 8, 8))\n"
        "Ptq().finish(Ptq().rewrite(net, where).eval(), where)\n"
        "print([m for m in sys.modules if m.startswith(('zoo.training', 'zoo.pipeline', 'accelerate'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------------- from end to end


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> Result:
    return run("ptq", tmp_path_factory.mktemp("ptq") / "small", budgets=(Budget(minutes=600),))


def test_no_technique_trains_so_nothing_is_trained(outcome: Result) -> None:
    assert outcome.trainings == []
    before, after = outcome.files
    assert after.file_bytes < 0.45 * before.file_bytes
    assert after.macs == before.macs
    artifact = open_artifact(outcome.artifact)
    artifact.verify()
    assert artifact.manifest.precision == "int8"
    metrics = json.loads((outcome.artifact / "metrics.json").read_text())
    assert metrics["training"]["training"] == "none: no technique of the recipe trains"
    assert "steps" not in metrics["training"]
    card = (outcome.artifact / "README.md").read_text()
    assert "none: no technique of the recipe trains" in card
    session = OnnxRuntimeEngine().open(artifact.read("model.onnx"))
    assert np.isfinite(session.run(np.zeros((1, 4, 32, 32), np.float32))).all()


def test_the_recipe_file_gives_the_same_artifact_whatever_time_is_offered(
    outcome: Result, tmp_path: Path
) -> None:
    file = recipe_toml.read(outcome.artifact / "recipe.toml")
    assert file.steps is None
    again = apply("small-unet", outcome.artifact / "recipe.toml", out=tmp_path / "again", minutes=1, images=1)
    assert again.fingerprint == outcome.fingerprint
    for name in ("model.onnx", "model.safetensors", "golden.safetensors"):
        assert (again.artifact / name).read_bytes() == (outcome.artifact / name).read_bytes(), name


def test_after_structure_only_structure_is_trained() -> None:
    stages = stages_of(resolve(parse("depthwise+ptq")).techniques)
    assert [(stage.name, stage.trains) for stage in stages] == [("depthwise", True), ("ptq", False)]
    assert share_budgets([Budget(steps=3)], stages) == (Budget(steps=3),)
