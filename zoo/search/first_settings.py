"""The settings that a search begins with, before anything is proposed from what was measured."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.recipes.canonical import ResolvedRecipe
    from zoo.search.space import Space

#: Settings with the fewest techniques, and settings at the ends of all ranges.
_PLAINEST, _CORNERS = 8, 4
#: Settings of each kind that those are drawn from, at most.
_MOST = 5000


def first_settings(space: Space, trials: int, seed: int) -> list[dict[str, int]]:
    """Return every setting of a space that is small enough, else the plainest and some at the ends of ranges.

    Args:
        space: The space.
        trials: How many candidates there will be.
        seed: Draws from what is too much.
    """
    if space.structures is not None and space.size <= trials:
        return list(space.every())
    generator = random.Random(seed)
    found: list[dict[str, int]] = []
    for settings, most in ((space.plainest(), _PLAINEST), (space.corners(), _CORNERS)):
        every = [each for each in itertools.islice(settings, _MOST) if each not in found]
        found += generator.sample(every, most) if len(every) > most else every
    return found


def recipe_of(space: Space, setting: Mapping[str, int]) -> ResolvedRecipe:
    """Return the recipe of a setting.

    Raises:
        UsageError: Its options exclude each other.
    """
    return space.draw(lambda axis: setting[axis.name])
