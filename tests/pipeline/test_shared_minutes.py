"""How the trainings of a recipe share their minutes."""

from __future__ import annotations

import pytest

from zoo.pipeline.shared_minutes import SharedMinutes
from zoo.training.schedule import Budget


def test_trainings_that_take_their_time_get_what_was_planned() -> None:
    minutes = SharedMinutes([Budget(minutes=6.5), Budget(minutes=3.5)])
    assert minutes.next() == Budget(minutes=6.5)
    minutes.spend(6.5 * 60)
    assert minutes.next() == Budget(minutes=3.5)


@pytest.mark.parametrize(("spent", "left"), [(4.0, 6.0), (6.3, 3.7), (7.0, 3.0), (12.0, 0.0)])
def test_the_last_training_gets_what_the_first_one_left(spent: float, left: float) -> None:
    minutes = SharedMinutes([Budget(minutes=6.5), Budget(minutes=3.5)])
    minutes.next()
    minutes.spend(spent * 60)
    assert minutes.next().minutes == pytest.approx(left)


def test_later_trainings_share_what_is_left_in_proportion() -> None:
    minutes = SharedMinutes([Budget(minutes=6), Budget(minutes=3), Budget(minutes=1)])
    minutes.next()
    minutes.spend(2 * 60)
    assert minutes.next().minutes == pytest.approx(6)
    minutes.spend(6 * 60)
    assert minutes.next().minutes == pytest.approx(2)


def test_steps_stay_steps() -> None:
    minutes = SharedMinutes([Budget(steps=10), Budget(minutes=1), Budget(steps=0)])
    assert minutes.next() == Budget(steps=10)
    minutes.spend(600)
    assert minutes.next() == Budget(minutes=1)
    minutes.spend(30)
    assert minutes.next() == Budget(steps=0)
