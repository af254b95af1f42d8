"""Tiles cover the frame once, look as far as the network does, and stay within their limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import plugins
from zoo.contracts import InputSpec
from zoo.errors import UsageError
from zoo.runner.tiles import Plan, Span, plan_tiles


def spec(stride: int = 16, halo: int | None = 96, fixed: tuple[int, int] | None = None) -> InputSpec:
    return InputSpec(
        "packed-raw",
        4,
        multiple_of=stride,
        mosaic="bayer",
        halo=halo,
        example=fixed or (256, 256),
        fixed_size=fixed is not None,
    )


def check(spans: tuple[Span, ...], size: int, halo: int, stride: int) -> None:
    assert spans[0].start == 0
    assert spans[-1].stop == size
    for before, after in pairwise(spans):
        assert before.stop == after.start
    for span in spans:
        assert span.start < span.stop
        assert span.first % stride == span.last % stride == span.start % stride == 0
        assert span.first <= max(0, span.start - halo)
        assert span.last >= min(size, span.stop + halo)
        assert span.first >= 0
        assert span.last <= size


def test_a_network_of_one_size_is_not_run_over_a_frame_pixel_by_pixel() -> None:
    with pytest.raises(UsageError, match="times over"):
        plan_tiles(1000, 1000, spec(1, 64, fixed=(128, 128)), limit=0)
    assert plan_tiles(1000, 1000, spec(1, 60, fixed=(128, 128)), limit=0).tiles == 110**2
    assert plan_tiles(1000, 1000, spec(1, None, fixed=(128, 128)), limit=0).tiles == 15**2


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.sampled_from([1, 2, 16]),
    st.integers(0, 120),
    st.integers(1, 600_000),
)
def test_tiles_cover_the_frame_once_with_their_halo(
    h: int, w: int, stride: int, halo: int, most: int
) -> None:
    plan = plan_tiles(h, w, spec(stride, halo), limit=most)
    assert h <= plan.height < h + stride
    assert w <= plan.width < w + stride
    check(plan.rows, plan.height, halo, stride)
    check(plan.columns, plan.width, halo, stride)
    assert len(list(plan)) == plan.tiles


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.sampled_from([16, 48, 96]))
def test_a_network_of_one_size_gets_tiles_of_that_size(size: int, halo: int) -> None:
    plan = plan_tiles(size, 256, spec(16, halo, (256, 256)), limit=1)
    assert {span.last - span.first for span in (*plan.rows, *plan.columns)} == {256}
    check(plan.rows, plan.height, halo, 16)


@pytest.mark.parametrize("most", [150_000, 300_000, 500_000])
def test_tiles_of_a_large_frame_keep_to_the_limit_and_repeat_little_work(most: int) -> None:
    weighed: list[int] = []

    def need(plan: Plan) -> int:
        weighed.append(plan.largest)
        return plan.largest

    plan = plan_tiles(2000, 3000, spec(), limit=most, need=need)
    assert len(weighed) <= 64 * 64
    assert plan == plan_tiles(2000, 3000, spec(), limit=most)
    areas = [(row.last - row.first) * (column.last - column.first) for row, column in plan]
    assert max(areas) <= most
    assert sum(areas) < 4 * 2000 * 3000


def test_a_frame_that_fits_is_one_tile() -> None:
    assert plan_tiles(500, 500, spec(), limit=512 * 512).tiles == 1


def test_the_asked_side_is_kept_or_refused_with_what_is_needed() -> None:
    plan = plan_tiles(1000, 1000, spec(), limit=1, most_side=300)
    assert all(span.last - span.first <= 300 for span in (*plan.rows, *plan.columns))
    with pytest.raises(UsageError, match="a border of 96 pixels around") as caught:
        plan_tiles(1000, 1000, spec(), limit=1, most_side=100)
    assert "--tile 208" in (caught.value.hint or "")
    assert plan_tiles(1000, 1000, spec(), limit=1, most_side=208).tiles > 1


def test_without_a_stated_halo_the_deepest_network_here_is_assumed() -> None:
    rows = plan_tiles(1000, 100, spec(halo=None), limit=50_000).rows
    assert rows[1].first == rows[1].start - 96


@pytest.mark.parametrize("name", ["unet", "lighter-unet", "unet-xtrans"])
def test_the_halo_of_the_built_in_networks_is_what_they_look_at(name: str) -> None:
    built = plugins.architecture(name)
    halo = built.input.halo
    assert halo is not None
    model = built.build().eval()
    start, stop, height = 112, 128, 256

    def reached(distance: int) -> bool:
        """Whether what lies `distance` rows outside the tile and beyond reaches it: not-a-number spreads."""
        inputs = torch.zeros(1, built.input.channels, height, 16)
        inputs[:, :, : start - distance + 1] = float("nan")
        inputs[:, :, stop + distance - 1 :] = float("nan")
        with torch.no_grad():
            outputs = model(inputs)[:, :, start * built.output.scale : stop * built.output.scale]
        return bool(outputs.isnan().any())

    assert not reached(halo + 1)
    assert reached(halo - 16)
