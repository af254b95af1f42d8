"""The settings that a search begins with, before anything is proposed from what was measured."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.recipes.canonical import ResolvedRecipe
    from zoo.search.space import Space

#: Settings with the fewest techniques, and settings at the ends of all ranges.
_PLAINEST, _CORNERS = 8, 4
#: Settings of each kind that those are drawn from, at most.
_MOST = 5000


@dataclass(frozen=True)
class FirstSettings:
    """Settings in the order in which they are tried.

    Attributes:
        settings: The places on the axes by their names.
        plainest: The places of those that a user would try by hand: the fewest techniques, ranges in the middle.
    """

    settings: tuple[dict[str, int], ...]
    plainest: frozenset[int]


def first_settings(space: Space, trials: int, seed: int) -> FirstSettings:
    """Return every setting of a space that is small enough, else the plainest and some at the ends of ranges.

    Args:
        space: The space.
        trials: How many candidates there will be.
        seed: Draws from what is too much.
    """
    generator = random.Random(seed)

    def some(settings: Iterator[dict[str, int]], most: int) -> list[dict[str, int]]:
        every = list(itertools.islice(settings, _MOST))
        return generator.sample(every, most) if len(every) > most else every

    plainest = some(space.plainest(), _PLAINEST)
    if space.structures is not None and space.size <= trials:
        found = list(space.every())
    else:
        others = (each for each in space.corners() if each not in plainest)
        found = plainest + some(others, _CORNERS)
    return FirstSettings(tuple(found), frozenset(found.index(each) for each in plainest))


def recipe_of(space: Space, setting: Mapping[str, int]) -> ResolvedRecipe:
    """Return the recipe of a setting.

    Raises:
        UsageError: Its options exclude each other.
    """
    return space.draw(lambda axis: setting[axis.name])
