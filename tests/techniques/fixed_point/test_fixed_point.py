"""Fixed-point, binary and ternary numbers: the formulas, what stays in float, the packed file."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from support.quantized import SmallUNet, context, pictures
from support.small_net import run as apply_recipe
from zoo.architectures.fixed_point_unet import FixedPointUNetArchitecture
from zoo.architectures.fixed_point_unet_module import FixedPointUNetBlock
from zoo.artifacts.artifact import open_artifact
from zoo.contracts import Context
from zoo.cost import model_cost, onnx_cost
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import LegalityError, UnknownIdError, UsageError, ZooError
from zoo.export.exporter import export_onnx
from zoo.export.int8_coverage import int8_report
from zoo.options import format_options, parse_options
from zoo.quantization.fixed_point import (
    BinaryQuantizer,
    FixedPointQuantizer,
    TernaryQuantizer,
    to_fixed_point,
)
from zoo.quantization.quantized_layers import QuantConv2d
from zoo.recipes.canonical import resolve
from zoo_techniques.fixed_point import FixedFormat, FixedPointConfig, technique
from zoo_techniques.fixed_point import FixedPoint as Technique

onnx = pytest.importorskip("onnx")

numbers = st.floats(-100, 100, width=32)
formats = st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda each: 2 <= sum(each) <= 6)


def rounded(x: float, ibits: int, fbits: int, mode: str, *, nonnegative: bool = False) -> float:
    quantizer = FixedPointQuantizer(ibits, fbits, mode, "one", nonnegative=nonnegative)  # type: ignore[arg-type]
    return float(quantizer.eval()(torch.tensor([x])))


# -------------------------------------------------------------------------------------------------- formulas


@given(numbers, formats)
def test_saturating_numbers_are_the_nearest_in_twos_complement(x: float, format_: tuple[int, int]) -> None:
    ibits, fbits = format_
    half = 2 ** (ibits + fbits - 1)
    level = min(max(round(x * 2**fbits), -half), half - 1)
    assert rounded(x, *format_, "saturate") == level / 2**fbits
    if x >= 0:
        level = min(round(x * 2**fbits), 2 * half - 1)
        assert rounded(x, *format_, "saturate", nonnegative=True) == level / 2**fbits


def published(x: float, ibits: int, fbits: int) -> float:
    """The paper's function, for one number."""

    def quantize(value: float, bits: int) -> float:
        return round(min(max(value, 0), 2**bits - 1) * 2**bits) / 2**bits

    whole = math.floor(abs(x))
    return math.copysign(quantize(whole, ibits) + quantize(abs(x) - whole, fbits), x)


@given(numbers, formats)
def test_the_papers_mode_computes_the_published_function(x: float, format_: tuple[int, int]) -> None:
    assert rounded(x, *format_, "paper") == published(x, *format_)
    assert float(to_fixed_point(torch.tensor(x), *format_)) == published(x, *format_)


@pytest.mark.parametrize(
    ("x", "format_", "paper", "saturating"),
    [
        (1.3, (0, 4), 0.3125, 0.4375),  # a weight beyond the range wraps
        (-1.3, (0, 4), -0.3125, -0.5),
        (0.99, (0, 4), 1.0, 0.4375),  # the fraction rounds up to the 33rd level
        (5.7, (6, 0), 5.0, 6.0),  # an activation loses its fraction
        (70.2, (6, 0), 63.0, 31.0),
        (-70.2, (6, 0), -63.0, -32.0),
    ],
)
def test_examples_of_both_modes(x: float, format_: tuple[int, int], paper: float, saturating: float) -> None:
    assert rounded(x, *format_, "paper") == paper
    assert rounded(x, *format_, "saturate") == saturating


def test_activations_that_cannot_be_negative_need_no_sign() -> None:
    assert rounded(70.2, 6, 0, "saturate", nonnegative=True) == 63.0
    assert rounded(5.7, 6, 0, "saturate", nonnegative=True) == 6.0


def gradient(quantizer: nn.Module, values: list[float]) -> list[float]:
    x = torch.tensor(values, requires_grad=True)
    quantizer(x.view(1, -1)).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()


def test_gradients_are_straight_through() -> None:
    values = [-9.0, -0.3, 0.0, 0.26, 1.3]
    assert gradient(FixedPointQuantizer(0, 4, "paper", "one", weight=True), values) == [1, 1, 1, 1, 1]
    assert gradient(FixedPointQuantizer(0, 4, "saturate", "one", weight=True), values) == [0, 1, 1, 1, 0]
    for signs in (BinaryQuantizer("free", channels=1), TernaryQuantizer("free", channels=1)):
        assert gradient(signs.train(), values) == [1, 1, 1, 1, 1]


def test_the_papers_scale_learns_as_a_step_size_does() -> None:
    x = torch.tensor([0.3, 2.6, 5.9])
    quantizer = FixedPointQuantizer(3, 0, "paper", "free")
    with torch.no_grad():
        quantizer.log_scale.zero_()
    quantizer(x).sum().backward()
    assert quantizer.log_scale.grad.item() == pytest.approx(
        sum(math.floor(v) - v for v in x.tolist()), rel=1e-5
    )


def test_scales_are_free_powers_of_two_or_one() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 5, 3, 3) * torch.rand(6, 1, 1, 1)
    free, shift, one = (
        FixedPointQuantizer(0, 4, "saturate", scaling, weight=True, channels=6).eval()
        for scaling in ("free", "shift", "one")
    )
    for quantizer in (free, shift, one):
        quantizer.observe_weight(weight)
    assert free.scale.shape == (6,)
    assert shift.scale.shape == one.scale.shape == (1,)
    assert math.log2(shift.scale.item()).is_integer()
    assert one.scale.item() == 1 / 16
    errors = [(quantizer(weight) - weight).square().mean().item() for quantizer in (free, shift, one)]
    assert errors[0] < errors[1] < errors[2]
    assert sorted(name for name, _ in nn.ModuleList([free, shift, one]).named_parameters()) == ["0.log_scale"]


def test_binary_weights_are_the_nearest_two_values() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3)
    quantizer = BinaryQuantizer("free", channels=4).eval()
    quantizer.observe_weight(weight)
    expected = weight.abs().mean((1, 2, 3), keepdim=True) * torch.where(weight < 0, -1.0, 1.0)
    assert torch.allclose(quantizer(weight), expected)
    error = (expected - weight).square().sum()
    assert all((factor * expected - weight).square().sum() > error for factor in (0.95, 1.05))


def test_ternary_weights_follow_their_formula() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 30)
    quantizer = TernaryQuantizer("free", channels=4).eval()
    quantizer.observe_weight(weight)
    beyond = weight.abs() > 0.7 * weight.abs().mean(1, keepdim=True)
    size = (weight.abs() * beyond).sum(1, keepdim=True) / beyond.sum(1, keepdim=True)
    expected = size * weight.sign() * beyond
    assert torch.allclose(quantizer(weight), expected)
    assert torch.allclose(quantizer(expected), expected), "rounded weights stay where they are"


def test_scales_of_two_and_three_levels_follow_the_weights_in_training_alone() -> None:
    quantizer = BinaryQuantizer("free", channels=1).train()
    quantizer(torch.full((1, 8), 3.0))
    assert quantizer.scale.item() == pytest.approx(3.0)
    quantizer.eval()(torch.full((1, 8), 5.0))
    assert quantizer.scale.item() == pytest.approx(3.0)


# --------------------------------------------------------------------------------------------------- options


def test_a_format_is_text_not_a_number() -> None:
    config = parse_options("fixed-point", FixedPointConfig, {"w": "0.2", "a": "4.0"})
    assert (config.w, config.a) == (FixedFormat(0, 2), FixedFormat(4, 0))
    assert format_options(config)["w"] == "0.2"
    for wrong in ("0.10", "0.4.1", "4", "-1.4", "0,4", "1.0", "4.5", "ternery"):
        with pytest.raises(UsageError, match="'w' must be bits before and after the point"):
            parse_options("fixed-point", FixedPointConfig, {"w": wrong})


def test_options_come_back_from_their_text() -> None:
    for given_ in (
        {},
        {"w": "binary", "a": "none"},
        {"mode": "paper", "keep": ("first", "*.conv2")},
        {"keep": ()},
    ):
        config = parse_options("fixed-point", FixedPointConfig, given_)
        assert parse_options("fixed-point", FixedPointConfig, format_options(config)) == config


def test_more_levels_than_int8_has_are_refused() -> None:
    with pytest.raises(UsageError, match=r"w=0\.8 in mode=paper"):
        parse_options("fixed-point", FixedPointConfig, {"w": "0.8", "mode": "paper"})
    with pytest.raises(UsageError, match="9 bits"):
        FixedFormat(8, 1)


@pytest.mark.parametrize("other", ["qat", "ptq"])
def test_two_kinds_of_numbers_never_share_a_recipe(other: str) -> None:
    for recipe in (f"fixed-point+{other}", f"{other}+fixed-point"):
        with pytest.raises(LegalityError, match="cannot share a recipe"):
            resolve(recipe)


# ----------------------------------------------------------------------------------------------- the technique


class TwoStages(nn.Module):
    """The paper's network with one pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.bottom, self.join1 = (
            FixedPointUNetBlock(1, 16),
            FixedPointUNetBlock(16, 32),
            FixedPointUNetBlock(48, 16),
        )
        self.pool = nn.MaxPool2d(2)
        self.up1 = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down1(x)
        x = self.join1(torch.cat([self.up1(self.bottom(self.pool(skip))), skip], dim=1))
        return torch.sigmoid(self.head(x))


class Small(FixedPointUNetArchitecture):
    """It, with statistics of its own and scales of both signs in one batch norm."""

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        net = TwoStages().train()
        with torch.no_grad():
            for _ in range(10):
                net(torch.rand(4, 1, 32, 32))
            net.head.weight.mul_(3)
            net.bottom.norm1.weight[:3] = -0.5
        return net.eval()


def scene() -> Tensor:
    return pictures(4, channels=1)


def applied(net: nn.Module | None = None, **options: object) -> tuple[fx.GraphModule, Context]:
    where = context(Small(), scene())
    config = parse_options("fixed-point", FixedPointConfig, options)  # type: ignore[arg-type]
    module = Technique(config).rewrite(net or Small().build(), where)
    assert isinstance(module, fx.GraphModule)
    return module, where


@functools.cache
def finished(**options: object) -> fx.GraphModule:
    module, where = applied(**options)
    return Technique().finish(module.eval(), where)  # type: ignore[return-value]


@functools.cache
def exported(**options: object) -> bytes:
    return export_onnx(finished(**options), Small())


def quantized_layers(module: nn.Module) -> list[str]:
    return [name for name, layer in module.named_modules() if isinstance(layer, QuantConv2d)]


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * torch.log10((one - other).square().mean() / (other.max() - other.min()) ** 2))


def test_first_block_and_last_layer_stay_in_float_and_are_named() -> None:
    module, where = applied()
    assert "down1.conv1" not in quantized_layers(module)
    assert quantized_layers(module) == ["bottom.conv1", "bottom.conv2", "join1.conv1", "join1.conv2"]
    kept = [left.layer for left in where.skipped_layers if "as the options say" in left.reason]
    assert kept == ["down1.conv1", "down1.conv2", "head"]
    before = Small().build().get_submodule("down1.conv1").weight
    folded = module.get_submodule("down1.conv1").weight
    assert len(torch.unique((folded / before)[0].round(decimals=3))) == 1, (
        "scaled by its batch norm, not rounded"
    )


def test_what_stays_in_float_can_be_chosen() -> None:
    assert len(quantized_layers(applied(keep=())[0])) == 7
    module, _ = applied(keep=("down*", "join1.conv1"))
    assert quantized_layers(module) == ["bottom.conv1", "bottom.conv2", "join1.conv2", "head"]


def test_a_name_that_matches_nothing_is_refused() -> None:
    with pytest.raises(
        UnknownIdError, match="'dwon1' matches no layer of the network; did you mean 'down1'"
    ) as error:
        applied(keep=("dwon1",))
    assert "down1.conv1" in str(error.value.hint)
    with pytest.raises(ZooError, match="every layer stays in float"):
        applied(keep=("*",))


def test_weights_are_numbers_of_the_format_times_their_scale() -> None:
    layer = finished().get_submodule("bottom.conv1")
    levels = (layer.weight / layer.weight_quantizer.scale.view(-1, 1, 1, 1)).detach()
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert levels.min() >= -8.001
    assert levels.max() <= 7.001
    literal = finished(scale="one").get_submodule("bottom.conv1").weight * 16
    assert torch.equal(literal, literal.round())


def test_training_with_the_papers_numbers_is_stable_and_lowers_the_loss() -> None:
    target = (scene() > 0.5).float()
    for mode in ("saturate", "paper"):
        module, _ = applied(mode=mode)
        module.train()
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy(module(scene()), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0], (mode, losses)
        assert max(losses) < 2 * losses[0], (mode, losses)


# ----------------------------------------------------------------------------------------------------- the file


def stored(data: bytes) -> dict[str, tuple[int, int]]:
    """Type and bytes of each initializer that belongs to a layer's weight."""
    found: dict[str, tuple[int, int]] = {}
    for tensor in onnx.load_from_string(data).graph.initializer:
        name = tensor.name.partition(":")[0]
        if name.endswith(".weight"):
            found[name] = (tensor.data_type, found.get(name, (0, 0))[1] + len(tensor.raw_data))
    return found


@pytest.mark.parametrize(
    ("options", "bits", "kind"),
    [
        ({}, 4, onnx.TensorProto.INT4),
        ({"w": "binary"}, 1, onnx.TensorProto.UINT8),
        ({"mode": "paper"}, 6, onnx.TensorProto.UINT8),  # 33 levels
    ],
    ids=["saturate", "binary", "paper"],
)
def test_the_file_holds_as_many_bits_as_stated_and_computes_what_the_network_does(
    options: dict[str, str], bits: int, kind: int
) -> None:
    net, data = finished(**options), exported(**options)
    weights = stored(data)
    for name in ("bottom.conv2", "join1.conv1"):
        numbers = net.get_submodule(name).weight.numel()
        assert weights[f"{name}.weight"] == (kind, numbers * bits // 8), name
    for name in ("down1.conv1", "head"):
        assert weights[f"{name}.weight"] == (
            onnx.TensorProto.FLOAT,
            4 * net.get_submodule(name).weight.numel(),
        )
    inputs = pictures(3, seed=5, channels=1)
    computed = torch.from_numpy(OnnxRuntimeEngine().open(data, threads=1).run(inputs.numpy()))
    with torch.no_grad():
        assert psnr(computed, net(inputs)) > 45
    cost = onnx_cost(data, (1, 1, 32, 32))
    wanted = model_cost(net, inputs[:1])
    twice = 32  # the shifts of a batch norm of which some channels have a negative scale
    assert (cost.parameters, cost.macs, cost.bytes) == (wanted.parameters + twice, wanted.macs, len(data))


def test_the_file_computes_the_same_with_nothing_folded_or_fused() -> None:
    runtime = pytest.importorskip("onnxruntime")
    inputs = pictures(2, seed=5, channels=1)
    settings = runtime.SessionOptions()
    settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for options in ({}, {"w": "binary"}):
        session = runtime.InferenceSession(exported(**options), settings, providers=["CPUExecutionProvider"])
        computed = torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])
        with torch.no_grad():
            assert psnr(computed, finished(**options)(inputs)) > 60


def test_quantized_convolutions_run_in_int8_whatever_they_are_stored_in() -> None:
    for options in ({}, {"w": "binary"}):
        report = int8_report(exported(**options))
        assert set(report.int8) == set(quantized_layers(finished(**options)))
        assert len(report.float) == 3  # named after what ONNX Runtime fuses with them


def test_activations_in_float_leave_only_weights_quantized() -> None:
    data = exported(a="none")
    operators = {node.op_type for node in onnx.load_from_string(data).graph.node}
    assert "DequantizeLinear" in operators
    assert "QuantizeLinear" not in operators
    inputs = pictures(2, channels=1)
    computed = OnnxRuntimeEngine().open(data, threads=1).run(inputs.numpy())
    with torch.no_grad():
        assert np.allclose(computed, finished(a="none")(inputs).numpy(), atol=1e-4)


def test_half_weights_halve_what_stayed_in_float() -> None:
    data = export_onnx(finished(), Small(), half_weights=True)
    before, after = stored(exported()), stored(data)
    for name in ("down1.conv1", "down1.conv2", "head"):
        assert after[f"{name}.weight"] == (onnx.TensorProto.FLOAT16, before[f"{name}.weight"][1] // 2)
    assert after["bottom.conv1.weight"] == before["bottom.conv1.weight"]
    inputs = pictures(2, channels=1)
    computed = torch.from_numpy(OnnxRuntimeEngine().open(data, threads=1).run(inputs.numpy()))
    with torch.no_grad():
        assert psnr(computed, finished()(inputs)) > 30


@pytest.mark.usefixtures("third_party")
def test_it_follows_depthwise_from_the_recipe_to_the_artifact(tmp_path: Path) -> None:
    outcome = apply_recipe("depthwise+fixed-point(w=0.4,a=6.0)", tmp_path / "small")
    artifact = open_artifact(outcome.artifact)
    artifact.verify()
    assert artifact.manifest.precision == "fixed-point w0.4 a6.0"
    before, separable, fixed = outcome.files
    assert fixed.macs == separable.macs < before.macs
    assert fixed.file_bytes < separable.file_bytes
    assert "computing in fixed-point w0.4 a6.0" in (outcome.artifact / "README.md").read_text()


def test_scales_that_can_be_anything_are_chosen_by_the_error_of_the_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, seen, unseen = SmallUNet().build(), pictures(4), pictures(4, seed=2)

    def error() -> float:
        module = Technique().rewrite(SmallUNet().build(), context(SmallUNet(), seen)).eval()
        with torch.no_grad():
            return float((module(unseen) - original(unseen)).square().mean())

    chosen = error()
    monkeypatch.setattr(technique._Scheme, "learns", False)
    assert chosen < 0.9 * error()
