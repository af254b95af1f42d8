"""`fire`: modules that cost what the papers say, fitted to the convolutions they replace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from support.rewriting import context, mean_error, odd_net, reasons, rewritten, smooth
from support.small_net import run
from zoo.artifacts.artifact import open_artifact
from zoo.cost import model_cost
from zoo.errors import NoEffectError, UsageError
from zoo.modules.fire import FireModule, TransposedFireModule
from zoo.options import parse_options
from zoo.quantization.lowering import DepthToSpace, as_pointwise
from zoo.testing.trial import rewrite
from zoo.training.schedule import Budget
from zoo_techniques.fire import Fire as FireTechnique
from zoo_techniques.fire.technique import FireConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def weights_of(module: nn.Module) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if name.endswith("weight"))


def test_squeeze_unet_has_the_weights_its_paper_counts() -> None:
    down = [(64, 32, 64), (128, 48, 128), (256, 64, 256), (512, 80, 512)]
    total = 3 * 3 * 3 * 64 + 3 * 3 * 64 * 64
    for inputs, squeeze, expand in down:
        total += weights_of(FireModule(inputs, squeeze, expand)) + weights_of(
            FireModule(2 * expand, squeeze, expand)
        )
    assert total == 1_545_920


def test_modules_cost_what_a_hand_count_says() -> None:
    image = torch.rand(1, 8, 6, 10)
    fire = model_cost(FireModule(8, 4, (3, 5), bias=False), image)
    assert (fire.parameters, fire.macs) == (8 * 4 + 4 * 3 + 4 * 5 * 9, 60 * (32 + 12 + 180))
    strided = model_cost(FireModule(8, 4, (3, 5), stride=2, bias=False), image)
    assert (strided.parameters, strided.macs) == (fire.parameters, 60 * 32 + 15 * (12 + 180))
    transposed = model_cost(TransposedFireModule(8, 4, (3, 5), bias=False), image)
    assert (transposed.parameters, transposed.macs) == (32 + 12 + 4 * 5 * 4, 60 * (32 + 12 + 80))


GEOMETRIES = {
    "same size": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 5, "padding": 2, "stride": 2},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    "uneven, reflecting": {"kernel_size": (1, 5), "padding": (0, 2), "padding_mode": "reflect"},
    "'same'": {"kernel_size": 3, "padding": "same", "dilation": 3},
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_convolution_that_is_a_fire_module_is_found_exactly(geometry: dict) -> None:
    fire = FireModule(8, 3, (4, 6), **geometry)
    conv = nn.Conv2d(8, 10, **geometry)
    taps = conv.weight[0, 0].numel()
    with torch.no_grad():
        squeeze = fire.squeeze.weight[:, :, 0, 0]
        weight = torch.zeros(10, 8, taps)
        weight[:4, :, taps // 2] = fire.expand1.weight[:, :, 0, 0] @ squeeze
        weight[4:] = torch.einsum("ost,sc->oct", fire.expand3.weight.flatten(2), squeeze)
        conv.weight.copy_(weight.view_as(conv.weight))
    data = smooth(6, 8)
    technique = FireTechnique(FireConfig(squeeze=0.3, share=0.4))
    for fitted in (True, False):
        new = rewritten(technique, nn.Sequential(conv), data, fitted=fitted)
        assert isinstance(new[0], FireModule)
        assert mean_error(new, conv, data) < 1e-3


def test_fitting_to_inputs_beats_the_weights_alone_on_inputs_not_seen() -> None:
    net, data = odd_net(), smooth(16)
    technique = FireTechnique(FireConfig(squeeze=0.5))
    fitted = rewritten(technique, net, data[:12])
    plain = rewritten(technique, net, data[:12], fitted=False)
    assert sum(isinstance(m, FireModule) for m in fitted.modules()) == 3
    assert sum(isinstance(m, TransposedFireModule) for m in fitted.modules()) == 1
    assert mean_error(fitted, net, data[12:]) < 0.5 * mean_error(plain, net, data[12:])


def test_a_relu_after_the_squeeze_changes_little_away_from_the_border() -> None:
    conv, data = nn.Conv2d(12, 24, 3, padding=1), smooth(8, 12, size=32)
    nets = [
        rewritten(FireTechnique(FireConfig(activation=activation)), nn.Sequential(conv), data)
        for activation in ("none", "relu")
    ]
    assert isinstance(nets[1][0].activation, nn.ReLU)
    with torch.no_grad():
        linear, rectified = (net(data)[..., 1:-1, 1:-1] for net in nets)
    assert float((linear - rectified).norm() / linear.norm()) < 0.05


def test_weights_and_multiplications_of_a_net_shrink() -> None:
    original, new, runner = rewrite(FireTechnique())
    example = runner.context.example_input
    before, after = model_cost(original, example), model_cost(new, example)
    assert after.parameters < 0.6 * before.parameters
    assert after.macs < 0.6 * before.macs


def test_what_cannot_become_a_fire_module_is_named_with_the_reason() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 2, padding=1),
        nn.Conv2d(16, 16, 3, padding=1, groups=4),
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(16, 1, 3, padding=1),
        nn.Conv2d(1, 16, 3, padding=1, stride=8),
        nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1),
        nn.ConvTranspose2d(16, 16, 2, stride=2),
    )
    ctx = context(smooth(1))
    new = FireTechnique(FireConfig(transposed=False)).rewrite(net, ctx)
    wanted = {
        "1": "does not centre",
        "2": "no centre",
        "3": "groups=4",
        "4": "1x1",
        "5": "one output channel",
        "6": "save nothing",
        "7": "not its stride",
        "8": "transposed=false",
    }
    found = reasons(ctx)
    assert found.keys() == wanted.keys()
    assert all(reason in found[layer] for layer, reason in wanted.items())
    assert isinstance(new[0], FireModule)


def test_nothing_dense_left_fails_by_name() -> None:
    from zoo.testing.workbench import Inert

    with pytest.raises(NoEffectError, match="fire changed nothing"):
        rewrite(FireTechnique(), Inert())


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"share": "1"}, {"squeeze": "0"}, {"activation": "gelu"}):
        with pytest.raises(UsageError):
            parse_options("fire", FireConfig, wrong)


def test_both_transposed_branches_lower_to_what_int8_computes() -> None:
    fire, image = TransposedFireModule(8, 4, (3, 5)), torch.rand(1, 4, 6, 10)
    for branch in (fire.expand1, fire.expand2):
        lowered = DepthToSpace(2)(as_pointwise(branch)(image))
        torch.testing.assert_close(lowered, branch(image))


@pytest.mark.usefixtures("third_party")
def test_fire_and_qat_make_a_file_that_runs_in_int8(tmp_path: Path) -> None:
    outcome = run("fire(activation=relu)+qat", tmp_path / "out", budgets=(Budget(steps=2),))
    artifact = open_artifact(outcome.artifact)
    artifact.verify()
    assert artifact.manifest.precision == "int8"
    metrics = artifact.metrics()
    assert metrics["int8"]["share"] > 0.9
    assert len(metrics["int8"]["float_layers"]) == 1
    before, after, quantized = outcome.files
    assert after.macs < before.macs
    assert quantized.file_bytes < 0.7 * after.file_bytes
