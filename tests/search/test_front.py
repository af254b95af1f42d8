"""Fronts and successive halving."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zoo.search.front import dominates, knee, pareto_front, ranked
from zoo.search.halving import bracket_size, promoted, rungs, share_promoted, worthwhile_rungs

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(POINTS)
def test_nothing_beats_a_point_of_the_front_and_something_every_other(points: list[tuple[int, int]]) -> None:
    front = {points[place] for place in pareto_front(points)}
    assert all(not dominates(other, point) for point in front for other in points)
    assert all(point in front or any(dominates(other, point) for other in front) for point in points)


@given(POINTS)
def test_a_ranking_holds_every_point_once_and_the_front_first(points: list[tuple[int, int]]) -> None:
    order = ranked(points)
    assert sorted(order) == list(range(len(points)))
    front = pareto_front(points)
    assert set(order[: len(front)]) == set(front)
    assert knee(points) in front


def test_few_candidates_are_trained_in_full() -> None:
    assert rungs(200) == (0, 22, 66, 200)
    assert rungs(2) == (0, 2)
    assert rungs(0) == (0,)
    assert [bracket_size(200, workers) for workers in (1, 3, 8)] == [9, 9, 27]


def test_candidates_that_exceed_a_budget_come_last() -> None:
    points = [(0.0, 3.0), (1.0, 1.0), (0.5, 0.5)]
    assert promoted(points, [0.0, 0.0, 0.5], share=1)[2] == 2
    assert promoted(points, [0.3, 0.2, 0.1]) == [2]
    assert promoted([], []) == []


def test_one_candidate_that_loses_everything_does_not_make_the_others_alike() -> None:
    points = [(0.0, 30.0), (0.2, 20.0), (3.0, 19.0), (90.0, 1.0)]
    assert promoted(points, [0.0] * 4, share=1)[0] == 1
    assert promoted(points, [0.0] * 4, [10.0, 0.1], share=1)[0] == 0, "the score alone"
    known = [(0.1, 40.0), (0.15, 40.0)]
    assert promoted(points[1:], [0.0] * 3, known=known, share=0.3) == [0]


def test_rounds_that_take_as_long_as_others_are_left_out() -> None:
    steps = rungs(2000)
    assert steps == (0, 222, 666, 2000)
    assert worthwhile_rungs(steps, 0, 5) == worthwhile_rungs(steps, 5, 0) == (222, 666, 2000), "unknown costs"
    assert worthwhile_rungs(steps, 45, 1045) == (222, 666, 2000)
    assert worthwhile_rungs(steps, 150, 1150) == (666, 2000)
    assert worthwhile_rungs(steps, 12, 40) == (2000,)
    assert worthwhile_rungs((0,), 12, 12) == ()


def test_more_go_on_where_training_costs_little_beside_the_rest() -> None:
    assert share_promoted(0, 10) == share_promoted(10, 0) == share_promoted(1, 90) == 1 / 3
    assert share_promoted(10, 15) == 10 / 15
    assert share_promoted(10, 8) == 1
    points = [(float(place), float(place)) for place in range(9)]
    assert promoted(points, [0.0] * 9, share=share_promoted(10, 15)) == list(range(6))
    assert promoted(points, [0.0] * 9) == [0, 1, 2]
