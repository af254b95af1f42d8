"""Spaces of recipes as text: every recipe is one, and what is printed is read back."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.recipe_strategies import IDS, NAMES, RECIPES, VALUES
from zoo.errors import RecipeError
from zoo.recipes import Recipe
from zoo.recipes.space_grammar import Between, Declared, OneOf, OpenRecipe, OpenStage, SpacePart, parse_space

NUMBERS = st.decimals(-1000, 1000, places=2)
RANGES = st.tuples(NUMBERS, NUMBERS).filter(lambda ends: ends[0] != ends[1]).map(
    lambda ends: Between(min(ends), max(ends))
)  # fmt: skip
DOMAINS = (
    st.builds(Declared)
    | RANGES
    | RANGES.map(lambda each: Between(each.low, each.high, each.high - each.low))
    | st.lists(VALUES, min_size=1, max_size=3, unique=True).map(tuple).map(OneOf)
)
OPTIONS = st.dictionaries(NAMES, DOMAINS, max_size=3).map(lambda options: tuple(options.items()))
STAGES = st.builds(OpenStage, IDS, OPTIONS)
PARTS = (
    st.builds(SpacePart, st.tuples(STAGES), st.booleans())
    | st.builds(SpacePart, st.lists(STAGES, min_size=2, max_size=3).map(tuple), st.booleans(), OPTIONS)
    | st.just(SpacePart((), optional=True))
)
SPACES = st.lists(PARTS, min_size=1, max_size=3).map(tuple).map(OpenRecipe)


@given(SPACES)
def test_a_space_is_read_back_as_it_was_printed(space: OpenRecipe) -> None:
    assert parse_space(str(space)) == space


@given(RECIPES)
def test_every_recipe_is_a_space_of_one(recipe: Recipe) -> None:
    space = OpenRecipe.of(recipe)
    assert parse_space(str(space)) == space
    assert all(len(part.choices) == 1 and not part.optional for part in space.parts)


@given(st.text(max_size=60))
def test_any_text_is_a_space_or_refused(text: str) -> None:
    with contextlib.suppress(RecipeError):
        assert parse_space(str(parse_space(text))) == parse_space(text)


def test_all_of_the_notation_in_one_line() -> None:
    space = parse_space(
        'depthwise? + channel-prune(ratio=0.1..0.6, macs="0.1..0.6") + {ptq, qat(bits={4,8})}(mixed=*)?'
    )
    depthwise, pruned, last = space.parts
    assert depthwise == SpacePart((OpenStage("depthwise"),), optional=True)
    assert pruned.choices[0].options == (
        ("ratio", Between(Decimal("0.1"), Decimal("0.6"))),
        ("macs", OneOf(("0.1..0.6",))),
    )
    assert last.choices[1].options == (("bits", OneOf(("4", "8"))),)
    assert last.shared == (("mixed", Declared()),)
    assert last.optional


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the name of a technique is expected here (at the end)"),
        ("ptq??", "expected '+' and another technique, or the end (at column 5)"),
        ("{ptq,}", "the name of a technique is expected here (at column 6)"),
        ("{ptq}(bits=8)", "options behind braces belong to several techniques"),
        ("ptq(bits=8..4)", "a range goes from a smaller to a larger number (at column 10)"),
        ("ptq(bits=2..8:0)", "a step is positive and no larger than the range (at column 10)"),
        ("ptq(bits=2..)", "a range is written low..high or low..high:step"),
        ("ptq(bits={4,4})", "a value of 'bits' is given twice (at column 10)"),
        ("ptq(bits={})", "the value of 'bits' is expected here"),
        ("ptq(bits=*,bits=4)", "option 'bits' is given twice"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_space(text)
    assert said in refused.value.message
