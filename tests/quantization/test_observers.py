"""Ranges that observers choose: against plain references, and on distributions whose best range is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.quantization.observers import BINS, MOMENTUM, Magnitudes
from zoo.quantization.ranges import MagnitudeHistogram

LEVELS = 127


def magnitudes(values: np.ndarray) -> Magnitudes:
    found = Magnitudes()
    found.add(values.astype(np.float32).reshape(1, -1))
    return found


def rounded(values: np.ndarray, reach: float, levels: int = LEVELS) -> np.ndarray:
    step = reach / levels
    return np.clip(np.rint(values / step), -levels, levels) * step


def mean_error(values: np.ndarray, reach: float) -> float:
    return float(np.mean((rounded(values, reach) - values) ** 2))


@st.composite
def tensors(draw: st.DrawFn) -> np.ndarray:
    """Bell-shaped, heavy-tailed or flat values, some of them exactly zero, of any size."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(2000, 6000))
    shapes = {
        "normal": rng.normal,
        "laplace": rng.laplace,
        "uniform": lambda size: rng.uniform(-1, 1, size),
        "rectified": lambda size: np.maximum(rng.normal(size=size), 0),
    }
    values = shapes[draw(st.sampled_from(sorted(shapes)))](size=count)
    return (values * 10.0 ** draw(st.integers(-4, 4))).astype(np.float32)


# --------------------------------------------------------------------------------------- plain references


@settings(max_examples=25, deadline=None)
@given(tensors())
def test_minmax_is_the_largest_magnitude(values: np.ndarray) -> None:
    assert magnitudes(values).range("minmax", LEVELS) == np.abs(values).max()


@settings(max_examples=25, deadline=None)
@given(tensors(), st.sampled_from([90.0, 99.0, 99.9, 99.99, 100.0]))
def test_percentile_is_numpys_of_the_values_that_are_not_zero(values: np.ndarray, share: float) -> None:
    found = magnitudes(values).range("percentile", LEVELS, share)
    # 99.9 % of 2,000 values is a whole number of them, or a little more by rounding: either neighbour will do.
    lower, higher = (
        np.percentile(np.abs(values[values != 0]), share, method=side) for side in ("lower", "higher")
    )
    bin_width = 1.01 * float(np.abs(values).max()) / BINS
    assert lower - bin_width <= found <= higher + bin_width


@settings(max_examples=15, deadline=None)
@given(tensors())
def test_mse_is_within_a_hundredth_of_the_best_of_many_ranges(values: np.ndarray) -> None:
    found = mean_error(values, magnitudes(values).range("mse", LEVELS))
    best = min(mean_error(values, np.abs(values).max() * share) for share in np.linspace(0.02, 1, 99))
    assert found <= 1.02 * best


def reference_entropy(values: np.ndarray, levels: int, candidates: list[int]) -> float:
    """Migacz's algorithm in loops: the candidate, in bins, whose quantized histogram diverges least."""
    values = np.abs(values[values != 0])
    counts, edges = np.histogram(values, BINS, (0, np.float32(values.max())))
    plain = counts.tolist()
    best, chosen = math.inf, BINS
    for size in candidates:
        reference = counts[:size].astype(float)
        reference[-1] += counts[size:].sum()
        quantized = np.zeros(size)
        for level in range(levels):
            start, end = -(-level * size // levels), -(-(level + 1) * size // levels)
            inside = plain[start:end]
            mean = sum(inside) / max(1, sum(count > 0 for count in inside))
            quantized[start:end] = [mean if count else 0 for count in inside]
        if np.any((reference > 0) & (quantized == 0)):
            continue
        p, q = reference / reference.sum(), quantized / quantized.sum()
        divergence = float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))
        if divergence < best:
            best, chosen = divergence, size
    return float(edges[chosen])


@pytest.mark.parametrize("shape", ["laplace", "rectified"])
def test_entropy_is_that_of_the_published_algorithm(shape: str) -> None:
    rng = np.random.default_rng(3)
    draw = rng.laplace if shape == "laplace" else rng.normal
    values = draw(size=20_000).astype(np.float32)
    if shape == "rectified":
        values = np.maximum(values, 0)
    levels = 15  # few levels: the loops of the reference take their time
    sizes = [*range(levels + 1, BINS, 4), BINS]
    best = reference_entropy(values, levels + 1, sizes)
    found = magnitudes(values).range("entropy", levels)
    assert found == pytest.approx(best, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30), st.integers(1, 4))
def test_moving_average_is_the_mean_of_the_pictures_largest_however_they_are_batched(
    largest: list[float], batch: int
) -> None:
    pictures = np.array(largest, dtype=np.float32)[:, None, None] * np.linspace(-1, 1, 9, dtype=np.float32)
    found = Magnitudes()
    for start in range(0, len(pictures), batch):
        found.add(pictures[start : start + batch])
    assert found.range("moving-average", LEVELS) == pytest.approx(np.mean(largest), rel=1e-4)


def test_a_moving_average_forgets_after_many_pictures() -> None:
    found = Magnitudes()
    for value in [1.0] * 200 + [2.0] * 200:
        found.note_maxima([value])
    assert found.average == pytest.approx(2 - (1 - MOMENTUM) ** 200, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(tensors())
def test_torch_counts_what_numpy_counts(values: np.ndarray) -> None:
    in_torch = MagnitudeHistogram()
    in_numpy = Magnitudes()
    for part in np.array_split(values, 3):
        in_torch.add(torch.from_numpy(part.copy()))
        in_numpy.add(part)
    assert (in_torch.largest, in_torch.limit, in_torch.zeros) == (
        in_numpy.largest,
        in_numpy.limit,
        in_numpy.zeros,
    )
    assert in_torch.counts.sum() == in_numpy.counts.sum()
    assert np.abs(in_torch.counts.cumsum() - in_numpy.counts.cumsum()).max() <= 0.01 * len(values)


# ------------------------------------------------------------------------------------ known distributions


def test_outliers_stretch_minmax_and_not_percentile_or_entropy() -> None:
    rng = np.random.default_rng(0)
    usual = rng.normal(size=200_000)
    values = np.concatenate([usual, [60.0, -55.0]])
    seen = magnitudes(values)
    assert seen.range("minmax", LEVELS) == 60.0
    for observer in ("percentile", "entropy"):
        assert 2.5 < seen.range(observer, LEVELS) < 10, observer
        assert mean_error(usual, seen.range(observer, LEVELS)) < 0.1 * mean_error(usual, 60.0)
    errors = {
        each: mean_error(values, seen.range(each, LEVELS))
        for each in ("minmax", "percentile", "entropy", "mse")
    }
    assert min(errors, key=errors.__getitem__) == "mse", errors


def test_flat_values_are_not_clipped() -> None:
    values = np.random.default_rng(0).uniform(-3, 3, 50_000)
    for observer in ("percentile", "entropy", "mse"):
        assert magnitudes(values).range(observer, LEVELS) > 0.97 * 3, observer


def test_the_percentile_of_a_rectified_tensor_is_not_that_of_its_zeros() -> None:
    values = np.concatenate([np.zeros(999_000), np.linspace(0.5, 1, 1000)])
    assert magnitudes(values).range("percentile", LEVELS, 99.0) == pytest.approx(0.995, abs=1e-3)


def test_fewer_levels_make_entropy_and_mse_cut_more() -> None:
    values = np.random.default_rng(0).laplace(size=100_000)
    seen = magnitudes(values)
    for observer in ("entropy", "mse"):
        assert seen.range(observer, 7) < 0.8 * seen.range(observer, 127), observer


@pytest.mark.parametrize("observer", ["minmax", "moving-average", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("values", [np.zeros(5), np.array([np.nan, np.inf]), np.zeros(0)])
def test_nothing_but_zeros_gives_no_range(observer: str, values: np.ndarray) -> None:
    seen = Magnitudes()
    seen.add(values.astype(np.float32))
    assert seen.range(observer, LEVELS) == 0.0


@pytest.mark.parametrize("observer", ["minmax", "moving-average", "percentile", "entropy", "mse"])
def test_one_value_alone_is_its_range(observer: str) -> None:
    seen = magnitudes(np.array([0.0, -0.25, np.nan]))
    assert seen.range(observer, LEVELS) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
def test_entropy_cuts_off_outliers_alone_where_values_stay_away_from_zero(share: float) -> None:
    """Bright images: few values near the darkest one, and all others far above it."""
    random = np.random.default_rng(0)
    dark = np.full(int(100_000 * share), 0.39)
    bright = random.normal(0.9, 0.03, 100_000 - len(dark)).clip(0.8, 1)
    seen = Magnitudes()
    seen.add(np.concatenate([dark, bright]).astype(np.float32)[None])
    assert seen.range("entropy", 127) >= np.quantile(bright, 0.98)
