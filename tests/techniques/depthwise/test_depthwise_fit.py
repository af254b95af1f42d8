"""The closed form and the least squares behind depthwise-separable substitution."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.modules.separable import SeparableConv2d
from zoo.surgery.reconstruction import draw_positions, extract_patches, output_size, statistics
from zoo_techniques.depthwise.fit import (
    SeparableStatistics,
    merged_weight,
    refine_split,
    separate,
    split_rank_one,
    weight_error,
)

# torch remarks that it copies the input when an even kernel pads to the same size.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

GEOMETRIES = {
    "same size": {"kernel_size": 3, "padding": 1},
    "no padding": {"kernel_size": 3},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
    "uneven stride": {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 3)},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "replicate": {"kernel_size": (1, 7), "padding": (0, 3), "padding_mode": "replicate"},
    "circular": {"kernel_size": 5, "padding": (2, 1), "padding_mode": "circular", "stride": (1, 2)},
    "'same'": {"kernel_size": 3, "padding": "same", "dilation": 3},
    "'same' with an even kernel": {"kernel_size": (4, 2), "padding": "same"},
    "'valid'": {"kernel_size": 2, "padding": "valid"},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def smooth(images: int, channels: int, size: int = 20) -> torch.Tensor:
    """Correlated inputs, as activations are; white noise would make least squares pointless."""
    noise = torch.randn(images, channels, size + 8, size + 8)
    blurred = nn.functional.avg_pool2d(noise, 5, stride=1)
    mixed = torch.einsum("cd,ndhw->nchw", torch.randn(channels, channels), blurred)
    return mixed[:, :, :size, :size].relu() + 0.3


def separable_like(conv: nn.Conv2d) -> nn.Conv2d:
    """`conv` with a weight that is a depthwise times a pointwise one."""
    kernels = torch.randn(conv.in_channels, *conv.kernel_size)
    pointwise = torch.randn(conv.out_channels, conv.in_channels)
    conv.weight.data = torch.einsum("oc,cij->ocij", pointwise, kernels)
    return conv


def output_error(conv: nn.Conv2d, separable: nn.Module, inputs: torch.Tensor) -> float:
    with torch.no_grad():
        wanted = conv(inputs)
        return float((separable(inputs) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_separable_weight_is_found_exactly_with_and_without_data(geometry: dict, bias: bool) -> None:
    conv = separable_like(nn.Conv2d(3, 5, **geometry, bias=bias))
    inputs = smooth(2, 3)
    for data in (None, inputs):
        found, error = separate(conv, data)
        assert error < 1e-4
        assert found(inputs).shape == conv(inputs).shape
        torch.testing.assert_close(found(inputs), conv(inputs), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_patches_are_what_the_convolution_sees(geometry: dict) -> None:
    conv = nn.Conv2d(3, 5, **geometry)
    image = smooth(1, 3, 19)
    wanted = conv(image)
    assert output_size(conv, 19, 19) == tuple(wanted.shape[2:])
    at = draw_positions(wanted.shape[2:], 11, torch.Generator().manual_seed(1))
    assert len(set(at.tolist())) == 11
    seen = extract_patches(conv, image, at).flatten(1) @ conv.weight.flatten(1).T + conv.bias
    torch.testing.assert_close(seen, wanted[0].flatten(1)[:, at].T, rtol=1e-4, atol=1e-5)


def test_rank_one_split_is_the_nearest_separable_weight() -> None:
    conv = nn.Conv2d(4, 6, 3)
    slices = conv.weight.detach().double().flatten(2).transpose(0, 1)
    singular = torch.linalg.svdvals(slices)
    lost = singular[:, 1:].square().sum() / singular.square().sum()
    best = split_rank_one(conv)
    assert weight_error(conv, best) == pytest.approx(float(lost.sqrt()), rel=1e-5)
    for _ in range(50):
        other = split_rank_one(conv)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        assert weight_error(conv, other) > weight_error(conv, best)


def test_both_parts_have_equal_norms_and_kernels_do_not_flip_the_sign() -> None:
    split = split_rank_one(nn.Conv2d(4, 6, 3))
    kernels, pointwise = split.depthwise.weight.flatten(1), split.pointwise.weight[:, :, 0, 0]
    torch.testing.assert_close(kernels.norm(dim=1), pointwise.norm(dim=0))
    assert (kernels.sum(dim=1) >= 0).all()


def test_dead_input_channel_can_still_be_trained() -> None:
    conv = nn.Conv2d(3, 4, 3)
    conv.weight.data[:, 1] = 0
    split = split_rank_one(conv)
    assert not merged_weight(split)[:, 1].any()
    split(smooth(1, 3)).square().sum().backward()
    assert split.pointwise.weight.grad[:, 1].abs().max() > 0


def test_channel_that_is_zero_in_the_data_keeps_its_rank_one_split() -> None:
    """Nothing is known about it, so the ridge term decides alone."""
    conv = nn.Conv2d(3, 4, 3)
    inputs = smooth(2, 3)
    inputs[:, 1] = 0
    refined, plain = separate(conv, inputs)[0], split_rank_one(conv)
    torch.testing.assert_close(merged_weight(refined)[:, 1], merged_weight(plain)[:, 1], rtol=0.05, atol=0.01)
    assert (merged_weight(refined)[:, 0] - merged_weight(plain)[:, 0]).abs().max() > 0.05


def test_all_zero_weight_and_all_zero_data_stay_finite() -> None:
    conv = nn.Conv2d(3, 4, 3)
    kept, error = separate(conv, torch.zeros(1, 3, 8, 8))
    assert error < 1e-6  # the bias is all there is to reproduce
    assert weight_error(conv, kept) <= weight_error(conv, split_rank_one(conv)) + 1e-6
    nn.init.zeros_(conv.weight)
    none, error = separate(conv, smooth(1, 3))
    assert error < 1e-6
    assert all(parameter.isfinite().all() for parameter in none.parameters())


def test_bias_goes_to_the_pointwise_part_and_none_is_invented() -> None:
    with_bias = split_rank_one(nn.Conv2d(3, 4, 3))
    assert torch.equal(with_bias.depthwise.bias, torch.zeros(3))
    assert with_bias.pointwise.bias.abs().min() > 0
    without = split_rank_one(nn.Conv2d(3, 4, 3, bias=False))
    assert without.depthwise.bias is None
    assert without.pointwise.bias is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_type_mode_and_frozenness_are_kept(dtype: torch.dtype) -> None:
    conv = nn.Conv2d(3, 4, 3).to(dtype).eval().requires_grad_(False)
    for split in (split_rank_one(conv), separate(conv, smooth(1, 3).to(dtype))[0]):
        assert not split.training
        assert not split.depthwise.training
        assert all(p.dtype == dtype and not p.requires_grad for p in split.parameters())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_refinement_is_never_worse_on_its_data_and_helps_on_other(geometry: dict, bias: bool) -> None:
    conv = nn.Conv2d(6, 8, **geometry, bias=bias)
    inputs = smooth(6, 6)
    refined, error = separate(conv, inputs[:4])
    plain = split_rank_one(conv)
    ours = output_error(conv, refined, inputs[:4])
    assert error == pytest.approx(ours, rel=1e-3)
    assert ours <= output_error(conv, plain, inputs[:4]) * (1 + 1e-6)
    assert output_error(conv, refined, inputs[4:]) < output_error(conv, plain, inputs[4:])


def test_refinement_keeps_what_it_cannot_better() -> None:
    """A few positions and a ridge term of great weight: the data-free split is the better one."""
    conv = nn.Conv2d(6, 8, 3, bias=False)
    inputs, plain = smooth(1, 6), split_rank_one(conv)
    for ridge in (1e-3, 1e6):
        split = split_rank_one(conv)
        gathered = SeparableStatistics(conv, split)
        gathered.add(inputs, torch.tensor([0, 7, 20]))
        refine_split(split, gathered, ridge=ridge)
        wanted = conv(inputs).flatten(2)[..., [0, 7, 20]]
        missed = (split(inputs).flatten(2)[..., [0, 7, 20]] - wanted).norm()
        assert missed <= (plain(inputs).flatten(2)[..., [0, 7, 20]] - wanted).norm() * (1 + 1e-5)


def test_every_alternation_lowers_the_objective() -> None:
    conv = nn.Conv2d(6, 8, 3)
    gathered = SeparableStatistics(conv, split_rank_one(conv))
    gathered.add(smooth(1, 6), torch.arange(200))
    kernels = gathered.kernels.clone()
    problem = gathered.problem(1e-3)
    pointwise, objective = problem.solve_pointwise(kernels)
    for _ in range(8):
        problem.improve_kernels(kernels, pointwise)
        before = objective
        pointwise, objective = problem.solve_pointwise(kernels)
        assert objective <= before * (1 + 1e-9)


def test_pointwise_solution_is_the_ridge_regression_of_the_definition() -> None:
    """Against an explicit design matrix, bias column and all."""
    conv = nn.Conv2d(3, 4, 3)
    image, ridge = smooth(1, 3), 1e-2
    at = torch.arange(0, 300, 2)
    split = split_rank_one(conv)
    gathered = SeparableStatistics(conv, split)
    targets = torch.randn(len(at), 4)
    gathered.add(image, at, targets)
    kernels = gathered.kernels.clone()
    pointwise, _ = gathered.problem(ridge).solve_pointwise(kernels)

    x = extract_patches(conv, image, at).double()
    centred = x - x.mean(0)
    level = ridge * float(centred.square().mean())
    design = torch.einsum("nct,ct->nc", centred, kernels)
    penalty = len(at) * level * torch.diag(kernels.square().sum(1))
    dense = torch.einsum("oct,ct->co", conv.weight.detach().double().flatten(2), kernels)
    wanted = design.T @ (targets - targets.mean(0)).double() + len(at) * level * dense
    torch.testing.assert_close(
        pointwise.T, torch.linalg.solve(design.T @ design + penalty, wanted), rtol=1e-4, atol=1e-5
    )


def test_targets_other_than_the_dense_outputs_are_followed() -> None:
    """A stand-in for `conv` on noisy inputs learns to give what `conv` gives on clean ones."""
    conv = nn.Conv2d(6, 8, 3, padding=1)
    clean = smooth(4, 6)
    noisy = clean + 0.3 * torch.randn_like(clean)
    with torch.no_grad():
        wanted = conv(clean)
        followed, error = separate(conv, noisy, wanted)
        ignored, _ = separate(conv, noisy)
        missed = [float((each(noisy) - wanted).norm() / wanted.norm()) for each in (followed, ignored)]
    assert error == pytest.approx(missed[0], rel=1e-3)
    assert missed[0] < missed[1]


def test_offset_of_the_inputs_a_thousand_times_their_spread_does_no_harm() -> None:
    """The bias takes the offset up; what is missed stays the same."""
    conv, inputs, missed = nn.Conv2d(6, 8, 3), smooth(4, 6), []
    for offset in (0, 1000):
        error = separate(conv, inputs + offset)[1]
        with torch.no_grad():
            missed.append(error * float(conv(inputs + offset).norm()))
    assert missed[1] == pytest.approx(missed[0], rel=0.02)


def test_too_wide_a_layer_keeps_its_kernels_and_fits_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = nn.Conv2d(6, 8, 3, padding=1)
    inputs = smooth(6, 6)
    full = separate(conv, inputs[:4])[1]
    monkeypatch.setattr(statistics, "MAX_FEATURES", 6 * 9 - 1)
    partial, error = separate(conv, inputs[:4])
    plain = split_rank_one(conv)
    directions = [nn.functional.normalize(each.depthwise.weight.flatten(1)) for each in (partial, plain)]
    torch.testing.assert_close(*directions)
    assert full < error < output_error(conv, plain, inputs[:4])
    assert error == pytest.approx(output_error(conv, partial, inputs[:4]), rel=1e-3)


def test_same_seed_same_result_other_seed_other_positions() -> None:
    conv, inputs = nn.Conv2d(4, 6, 3), smooth(3, 4)
    first, second, other = (separate(conv, inputs, positions=60, seed=seed)[0] for seed in (1, 1, 2))
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c) == (a is first.depthwise.bias)


def test_activations_that_are_not_finite_are_refused() -> None:
    inputs = smooth(1, 3)
    inputs[0, 0, 5, 5] = torch.nan
    with pytest.raises(ZooError, match="not finite"):
        separate(nn.Conv2d(3, 4, 3), inputs)


def test_the_dense_convolution_is_not_touched() -> None:
    conv = nn.Conv2d(3, 4, 3)
    before = {name: value.clone() for name, value in conv.state_dict().items()}
    separate(conv, smooth(1, 3))
    assert all(torch.equal(before[name], value) for name, value in conv.state_dict().items())


def test_module_layout_is_depthwise_then_pointwise() -> None:
    split = split_rank_one(nn.Conv2d(3, 4, 3))
    assert isinstance(split, SeparableConv2d)
    names = [f"{a}.{b}" for a, b in itertools.product(("depthwise", "pointwise"), ("weight", "bias"))]
    assert list(split.state_dict()) == names
