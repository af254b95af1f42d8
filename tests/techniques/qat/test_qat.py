"""The technique `qat` from rewriting through training to finishing."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, fx, nn

from support.quantized import SmallUNet, context, pictures, quantized
from zoo.contracts import Context, SilentReporter
from zoo.errors import UsageError, ZooError
from zoo.options import parse_options
from zoo.quantization.fake_quant import LOWEST_LEVEL, FakeQuantize
from zoo.quantization.prepare import calibrate, freeze
from zoo_techniques.qat import Qat
from zoo_techniques.qat.technique import QatConfig


def rounded(module: nn.Module) -> list[FakeQuantize]:
    return [m for m in module.modules() if isinstance(m, FakeQuantize)]


@functools.cache
def calibrated() -> fx.GraphModule:
    return quantized(SmallUNet().build(), pictures(4))[0]


def test_eight_bits_stay_close_to_the_float_network() -> None:
    x = pictures(4, seed=5)
    expected = SmallUNet().build()(x)
    error = (calibrated()(x) - expected).square().mean()
    assert 10 * torch.log10(expected.var() / error) > 25


def test_fewer_bits_cost_more() -> None:
    x = pictures(4)
    net = SmallUNet().build()
    expected = net(x)
    errors = [
        (quantized(copy.deepcopy(net), x, bits=bits)[0](x) - expected).square().mean().item()
        for bits in (8, 5, 3)
    ]
    assert errors[0] < errors[1] / 4 < errors[2] / 16


def test_weights_take_the_width_of_activations_unless_they_have_their_own() -> None:
    for options, expected in (({"bits": 4}, (4, 4)), ({"bits": 6, "weight_bits": 3}, (6, 3))):
        module, _ = quantized(SmallUNet().build(), pictures(1), **options)
        assert {(q.bits, q.weight) for q in rounded(module)} == {(expected[0], False), (expected[1], True)}


def test_weights_have_one_scale_per_channel_or_one_in_all() -> None:
    channels = {q.channels for q in rounded(calibrated()) if q.weight}
    assert {8, 16, 32, 64, 128, 12} == channels
    module, _ = quantized(SmallUNet().build(), pictures(1), per_channel=False)
    assert {tuple(q.log_scale.shape) for q in rounded(module)} == {(1,)}


@pytest.mark.parametrize("observer", ["lsq", "minmax"])
def test_training_lowers_the_loss_in_mixed_precision(observer: str) -> None:
    # Other images than it starts with: what it is quantized to already is as close to the network's own as it gets.
    x, target = pictures(4), 0.8 * SmallUNet().build()(pictures(4)).detach()
    module, _ = quantized(SmallUNet().build(), x, bits=3, observer=observer)
    module = module.to(memory_format=torch.channels_last).train()
    x = x.contiguous(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = (module(x).float() - target).abs().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    scales = {name for name in before if name.endswith("log_scale")}
    activations = {name for name in scales if name.startswith("quantizers.")}
    levels = {name for name in before if name.endswith(LOWEST_LEVEL)}
    assert changed == set(before) - levels - (set() if observer == "lsq" else activations)


def test_every_parameter_gets_its_gradient_in_distributed_training() -> None:
    module = copy.deepcopy(calibrated()).train()
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(module)
        for _ in range(2):  # the second pass fails if the first left a parameter out
            wrapped(pictures(1)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_an_interrupted_training_resumes_from_its_state() -> None:
    x = pictures(2)
    trained = copy.deepcopy(calibrated())
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    fresh, _ = quantized(SmallUNet().build(), pictures(1, seed=9))
    assert not torch.equal(fresh(x), trained(x))
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(x), trained(x))
    frozen = freeze(copy.deepcopy(trained))
    fresh.load_state_dict(frozen.state_dict())
    assert torch.equal(fresh(x), frozen(x))


def test_a_copy_of_the_network_has_quantizers_of_its_own() -> None:
    original = calibrated()
    module = copy.deepcopy(original)
    expected = original(pictures(1))
    with torch.no_grad():
        for quantizer in rounded(module):
            quantizer.log_scale.add_(1)
    assert torch.equal(original(pictures(1)), expected)
    owners = {id(q) for q in rounded(module)}
    assert all(id(m.owner) in owners for m in module.modules() if type(m).__name__ == "Requantize")


def test_finishing_fixes_scales_and_weights_and_computes_the_same_up_to_biases() -> None:
    module = copy.deepcopy(calibrated()).eval()
    expected = module(pictures(2))
    finished = Qat().finish(module, context(SmallUNet(), pictures(1)))
    error = (finished(pictures(2)) - expected).square().mean()
    assert 10 * torch.log10(expected.var() / error) > 30
    assert not [name for name, _ in finished.named_parameters() if "log_scale" in name]
    conv = finished.get_submodule("down1.conv1")
    levels = conv.weight / conv.weight_quantizer.scale.view(-1, 1, 1, 1)
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    steps = conv.bias / (conv.weight_quantizer.scale * finished.get_submodule("quantizers.x").scale)
    assert torch.allclose(steps, steps.round(), atol=1e-2)
    assert torch.equal(Qat().finish(copy.deepcopy(finished), context(SmallUNet(), pictures(1)))(pictures(2)),
                       finished(pictures(2)))  # fmt: skip


def test_a_bias_that_no_int32_could_hold_gets_room() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.LeakyReLU(), nn.Conv2d(4, 4, 1))
    with torch.no_grad():
        net[0].weight[2] = 0
        net[0].bias[2] = 1e6
    x = pictures(1)
    module, _ = quantized(net, x)
    expected = module(x)
    freeze(module)
    conv = module.get_submodule("0")
    steps = conv.bias.abs() / (module.get_submodule("quantizers.input_1").scale * conv.weight_quantizer.scale)
    assert steps.max() < 2**31
    assert torch.allclose(module(x), expected, rtol=1e-3)


def test_without_calibration_data_the_example_is_used_and_the_report_says_so() -> None:
    report = SilentReporter()
    where = Context(SmallUNet(), pictures(1), report=report)
    module = Qat().rewrite(SmallUNet().build(), where)
    (note,) = (each for each in report.notes if "calibration" in each)
    assert "no calibration data" in note
    reference, _ = quantized(SmallUNet().build(), pictures(1))
    assert torch.equal(module(pictures(1)), reference(pictures(1)))


def test_calibration_needs_a_batch() -> None:
    empty: Iterator[Tensor] = iter(())
    with pytest.raises(ZooError, match="no calibration batches"):
        calibrate(copy.deepcopy(calibrated()), empty)


def test_calibration_leaves_the_mode_of_training_as_it_was() -> None:
    module = copy.deepcopy(calibrated()).train()
    calibrate(module, [pictures(1)])
    assert module.training
    assert {q.mode for q in rounded(module)} == {"quantize"}


def test_options_out_of_range_are_refused_by_name() -> None:
    for given in ({"bits": "9"}, {"weight_bits": "1"}, {"observer": "percentile"}):
        with pytest.raises(UsageError, match=next(iter(given))):
            parse_options("qat", QatConfig, given)
    config = parse_options("qat", QatConfig, {"bits": "4", "observer": "mse", "per-channel": "no"})
    assert config == QatConfig(bits=4, observer="mse", per_channel=False)
