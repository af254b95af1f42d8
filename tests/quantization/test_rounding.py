"""Fake quantization: levels, gradients, ranges, types, state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.quantized_layers import QuantConv2d
from zoo.quantization.ranges import MagnitudeHistogram, best_channel_ranges

OBSERVERS = ("lsq", "mse", "minmax", "moving-average")


def calibrated(values: torch.Tensor, bits: int = 8, observer: str = "lsq") -> FakeQuantize:
    quantizer = FakeQuantize(bits, observer)  # type: ignore[arg-type]
    quantizer.start_observing()
    quantizer(values)
    assert quantizer.stop_observing()
    return quantizer


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_activations_lie_on_the_signed_levels_of_their_width(bits: int) -> None:
    torch.manual_seed(0)
    quantizer = calibrated(torch.randn(1000), bits)
    levels = quantizer(10 * torch.randn(5000)) / quantizer.scale
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert (round(levels.min().item()), round(levels.max().item())) == (
        -(2 ** (bits - 1)),
        2 ** (bits - 1) - 1,
    )


def test_weights_leave_the_lowest_level_out() -> None:
    quantizer = FakeQuantize(8, "minmax", weight=True, channels=2).eval()
    weight = torch.tensor([[-1.0, 0.5], [-2.0, 2.0]])
    quantizer.observe_weight(weight)
    assert torch.allclose(quantizer.scale, torch.tensor([1.0, 2.0]) / 127)
    assert torch.allclose(
        quantizer(3 * weight) / quantizer.scale.view(2, 1), torch.tensor([[-127.0, 127], [-127, 127]])
    )


def learned_step_gradients(
    x: np.ndarray, scale: np.ndarray, gradient: np.ndarray, low: int, high: int
) -> tuple[np.ndarray, np.ndarray]:
    """Equations 1 to 3 of Esser et al. for the values and the scale, (1,) or (C,), without the factor on the latter.

    As in torch, a value that is rounded to the outermost level from beyond it is not clipped.
    """
    steps = scale.reshape(-1, 1, 1, 1)
    levels = np.rint(x / steps)
    inside = (low <= levels) & (levels <= high)
    levels = np.clip(levels, low, high)
    by_scale = gradient * np.where(inside, levels - x / steps, levels)
    axes = (1, 2, 3) if scale.size > 1 else None
    return gradient * inside, by_scale.sum(axis=axes).reshape(scale.shape)


@pytest.mark.parametrize("channels", [None, 3])
def test_gradients_are_those_of_learned_step_size_quantization(channels: int | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 5, requires_grad=True)
    quantizer = FakeQuantize(4, "lsq", weight=channels is not None, channels=channels)
    with torch.no_grad():
        quantizer.log_scale.uniform_(-2.5, -1.5)
    weights = torch.randn_like(x)
    (quantizer(x) * weights).sum().backward()
    scale = quantizer.scale.detach().numpy().astype(np.float64)
    values, gradient = (each.detach().numpy().astype(np.float64) for each in (x, weights))
    by_value, by_scale = learned_step_gradients(values, scale, gradient, quantizer.low, quantizer.high)
    assert 0 < np.count_nonzero(by_value) < by_value.size, "some values are clipped"
    np.testing.assert_allclose(x.grad, by_value, rtol=1e-6)
    np.testing.assert_allclose(quantizer.log_scale.grad, by_scale * scale, rtol=1e-4, atol=1e-4)


def test_a_learned_scale_finds_the_range_of_least_error() -> None:
    torch.manual_seed(0)
    values = torch.randn(20000)
    quantizer = calibrated(values, bits=3)
    best = (quantizer(values) - values).square().mean().item()
    with torch.no_grad():
        quantizer.log_scale += 0.7
    assert (quantizer(values) - values).square().mean().item() > 1.3 * best
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        (quantizer(values) - values).square().mean().backward()
        optimizer.step()
    assert (quantizer(values) - values).square().mean().item() < 1.02 * best


def test_least_squares_ranges_beat_the_largest_value_on_heavy_tails() -> None:
    torch.manual_seed(0)
    values = torch.randn(20000) ** 3
    errors = {
        observer: (calibrated(values, 4, observer)(values) - values).square().mean().item()
        for observer in ("minmax", "mse")
    }
    assert errors["mse"] < 0.5 * errors["minmax"]
    weight = values.view(10, 2000)
    largest, best = (FakeQuantize(4, "minmax", weight=True, channels=10).eval() for _ in range(2))
    largest.observe_weight(weight)
    best.set_range(best_channel_ranges(weight, 7))
    assert ((best(weight) - weight) ** 2).sum() < 0.8 * ((largest(weight) - weight) ** 2).sum()


def test_a_histogram_that_grew_counts_everything_once() -> None:
    torch.manual_seed(0)
    parts = [torch.rand(1000) * size for size in (0.1, 3.0, 50.0)]
    grown = MagnitudeHistogram()
    for part in (torch.zeros(7), *parts, torch.tensor([float("nan"), float("inf")])):
        grown.add(part)
    assert grown.largest == torch.cat(parts).max()
    assert grown.counts.sum() == 3000
    centres = (torch.arange(len(grown.counts)).numpy() + 0.5) * grown.limit / len(grown.counts)
    mean = (grown.counts * centres).sum() / 3000
    assert mean == pytest.approx(torch.cat(parts).mean().item(), rel=0.01)


def test_only_zeros_leave_the_scale_positive() -> None:
    quantizer = FakeQuantize(8, "lsq")
    quantizer.start_observing()
    quantizer(torch.zeros(10))
    assert not quantizer.stop_observing()
    assert quantizer.scale > 0
    weights = FakeQuantize(8, "lsq", weight=True, channels=3)
    weights.observe_weight(torch.zeros(3, 4))
    assert (weights.scale > 0).all()


def test_an_empty_channel_leaves_room_for_its_bias_in_int32() -> None:
    conv = nn.Conv2d(4, 2, 1)
    with torch.no_grad():
        conv.weight[1] = 0.0
        conv.bias[1] = 300.0
    quantizer = FakeQuantize(8, "lsq", weight=True, channels=2)
    quantizer.observe_weight(conv.weight)
    before = quantizer.scale.detach().clone()
    quantizer.make_room(conv.bias, torch.tensor([1e-3]))
    assert (conv.bias.abs() / (1e-3 * quantizer.scale) < 2**31).all()
    assert quantizer.scale[0] == before[0]
    assert quantizer.scale[1] > before[1]


@pytest.mark.parametrize("observer", OBSERVERS)
def test_the_scale_stays_positive_whatever_it_learned(observer: str) -> None:
    quantizer = FakeQuantize(8, observer)  # type: ignore[arg-type]
    for value in (-1e9, 1e9):
        with torch.no_grad():
            quantizer.log_scale.fill_(value)
        assert 0 < quantizer.scale < float("inf")


def test_bfloat16_activations_are_rounded_in_float32() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    quantizer = calibrated(x)
    narrow = x.bfloat16().requires_grad_()
    out = quantizer(narrow)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, quantizer(narrow.float()).bfloat16())
    out.sum().backward()
    assert narrow.grad.dtype == torch.bfloat16
    assert quantizer.log_scale.grad.dtype == torch.float32


def test_the_memory_format_is_kept() -> None:
    x = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = calibrated(x.detach())(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.sum().backward()
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_a_moving_average_follows_the_batches_of_training_alone() -> None:
    quantizer = calibrated(torch.ones(10), observer="moving-average").train()
    start = quantizer.scale.item()
    for _ in range(50):
        quantizer(4 * torch.ones(10))
    followed = quantizer.scale.item()
    assert 1.5 * start < followed < 4 * start
    quantizer.eval()(100 * torch.ones(10))
    quantizer.freeze()
    quantizer.train()(100 * torch.ones(10))
    assert quantizer.scale.item() == followed


def test_observed_weight_ranges_follow_the_weights() -> None:
    conv = nn.Conv2d(2, 3, 1)
    quantizer = FakeQuantize(8, "minmax", weight=True, channels=3)
    layer = QuantConv2d.of(conv, quantizer).train()
    with torch.no_grad():
        layer.weight.mul_(5)
    layer(torch.zeros(1, 2, 4, 4))
    assert torch.allclose(quantizer.scale * 127, layer.weight.abs().flatten(1).amax(1))


def test_a_limit_clips_and_bounds_the_scale() -> None:
    quantizer = FakeQuantize(8, "lsq")
    quantizer.set_limit(6.0)
    quantizer.start_observing()
    assert quantizer(torch.tensor([9.0])).item() == 6.0
    quantizer.stop_observing()
    with torch.no_grad():
        quantizer.log_scale.fill_(3.0)
    assert quantizer(torch.tensor([100.0])).item() == pytest.approx(6.0)


@pytest.mark.parametrize("observer", OBSERVERS)
def test_state_loads_into_a_quantizer_that_was_never_calibrated(observer: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(100)
    old = calibrated(x, observer=observer).eval()
    for other in OBSERVERS:
        new = FakeQuantize(8, other).eval()  # type: ignore[arg-type]
        new.load_state_dict(old.state_dict())
        assert torch.equal(new(x), old(x))


@pytest.mark.parametrize(
    ("least", "most", "low"),
    [(-0.2, 1.0, -43), (-1.0, 0.2, -212), (-1.0, 0.9, -128), (0.0, 1.0, -4), (-1.0, -0.5, -251)],
)
def test_levels_move_to_the_side_on_which_values_reach_farther(least: float, most: float, low: int) -> None:
    x = torch.linspace(least, most, 1001)
    quantizer = FakeQuantize(8, "minmax", skewed=True).eval()
    quantizer.start_observing()
    quantizer(torch.stack([x, x]))
    quantizer.stop_observing()
    assert (quantizer.low, quantizer.high) == (low, low + 255)
    reach = max(abs(least) / -quantizer.low, abs(most) / quantizer.high)
    assert float(quantizer.scale) == pytest.approx(max(abs(least), abs(most)) / quantizer.reach)
    assert float((quantizer(x) - x).abs().max()) <= 0.51 * reach


def test_levels_move_back_where_other_data_are_symmetric_and_stay_without_a_sign() -> None:
    quantizer = FakeQuantize(8, "minmax", skewed=True).eval()
    for x, low in ((torch.tensor([-0.2, 1.0]), -43), (torch.tensor([-1.0, 1.0]), -128)):
        quantizer.start_observing()
        quantizer(torch.stack([x, x]))
        quantizer.stop_observing()
        assert quantizer.low == low
    positive = FakeQuantize(8, "minmax", nonnegative=True, skewed=True)
    assert positive.low == 0


def test_moved_levels_are_part_of_the_state() -> None:
    x = torch.linspace(-0.2, 1.0, 100)
    old, new = (FakeQuantize(8, "minmax", skewed=True).eval() for _ in range(2))
    old.start_observing()
    old(x)
    old.stop_observing()
    new.load_state_dict(old.state_dict())
    assert torch.equal(new(x), old(x))
    symmetric = calibrated(x, observer="minmax").eval()
    new.load_state_dict(symmetric.state_dict())  # and so is that they did not move
    assert torch.equal(new(x), symmetric(x))


def test_the_smaller_side_has_room_for_images_that_reach_farther() -> None:
    quantizer = FakeQuantize(8, "minmax", skewed=True).eval()
    quantizer.start_observing()
    for least in (-0.10, -0.15, -0.12):
        quantizer(torch.tensor([[least, 1.0]]))
    quantizer.stop_observing()
    assert -quantizer.low * float(quantizer.scale) == pytest.approx(0.18, abs=0.01)
