"""Spaces with their techniques: sizes, legality before anything else, and what third parties declare."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import LegalityError, UsageError
from zoo.recipes import canonical
from zoo.search.space import Space

SPACE = "depthwise?+channel-prune(ratio=0.1..0.5:0.1)?+{ptq,qat}(bits={4,8})?"


def drawn(space: Space, setting: dict[str, int]) -> str:
    return str(space.draw(lambda axis: setting[axis.name]).written)


def test_the_size_is_the_number_of_recipes() -> None:
    space = Space(SPACE)
    recipes = {drawn(space, setting) for setting in space.every()}
    assert len(recipes) == space.size == 2 * 6 * 5 - 1
    assert "depthwise+channel-prune(ratio=0.30000000000000004)+qat(bits=4)" not in recipes
    assert "depthwise+channel-prune(ratio=0.3)+qat(bits=4)" in recipes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_every_recipe_drawn_is_legal_and_in_the_space(seed: int) -> None:
    recipe = Space(SPACE.replace("}(bits={4,8})?", "}(bits={4,8})")).draw_at_random(seed)
    assert canonical.canonical(str(recipe.written)) == str(recipe)


def test_corners_are_at_the_ends_of_all_ranges() -> None:
    space = Space("channel-prune(ratio=0.1..0.5)+ptq(bits=4..8)")
    assert sorted(drawn(space, each) for each in space.corners()) == [
        f"channel-prune(ratio={ratio})+ptq(bits={bits})"
        for ratio, bits in itertools.product(("0.1", "0.5"), "48")
    ]


def test_the_plainest_recipes_have_one_technique_with_numbers_in_the_middle() -> None:
    space = Space("depthwise?+channel-prune(ratio=0.1..0.5)?+{ptq(bits=4..8),qat(observer={minmax,lsq})}?")
    assert [drawn(space, each) for each in space.plainest()] == [
        "ptq(bits=6)", "qat(observer=minmax)", "channel-prune(ratio=0.3)", "depthwise",
    ]  # fmt: skip
    assert [drawn(Space("depthwise?+ptq"), each) for each in Space("depthwise?+ptq").plainest()] == ["ptq"]


def test_a_technique_may_be_listed_with_different_options_but_not_twice_alike() -> None:
    space = Space("{ptq,qat,qat(mixed=2..4:1),qat(observer=minmax)}")
    assert space.size == 6
    axis = space.parts[0].axis
    assert axis.values == ("ptq", "qat", "qat(mixed=2..4:1)", "qat(observer=minmax)")
    assert len(set(axis.labels)) == 4, "by which the study tells them apart"
    assert {drawn(space, each) for each in space.every()} >= {"qat", "qat(mixed=4.0)", "qat(observer=minmax)"}
    with pytest.raises(UsageError, match=r"qat\(mixed=2..4:1\) is listed twice") as refused:
        Space("{qat(mixed=2..4:1),ptq,qat(mixed=2..4:1)}")
    assert "{qat(mixed=2..4:1),ptq}" in (refused.value.hint or "")


def test_options_behind_braces_belong_to_those_that_have_them() -> None:
    space = Space("{ptq,qat}(mixed=*)")
    recipes = {drawn(space, setting) for setting in space.every()}
    assert "ptq" in recipes
    assert "qat(mixed=2.3)" in recipes
    assert len(recipes) == 22


def test_an_open_option_is_what_the_technique_declares() -> None:
    names = {axis.name: axis.values for axis in Space("ptq(bits=*,observer=*,per_channel=*)").axes}
    assert names["ptq.bits"] == tuple("2345678")
    assert {"minmax", "entropy"} <= set(names["ptq.observer"])
    assert names["ptq.per_channel"] == ("true", "false")


def test_a_list_of_layers_is_a_value_for_each() -> None:
    space = Space("qat(layers=*)", lambda: ("stem", "head"))
    assert space.size == 49
    assert drawn(space, {"qat.layers[stem]": 0, "qat.layers[head]": 6}) == "qat(layers=[stem:2,head:8])"


@pytest.mark.usefixtures("third_party")
def test_techniques_of_third_parties_take_part_without_a_line_of_code() -> None:
    names = {axis.name for axis in Space("*").axes}
    assert {"channel-prune.ratio", "depthwise.which"} <= names
    assert [each for each in names if each.partition(".")[0].startswith(("zoo-small:", "small"))], names


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("qat+depthwise?", LegalityError, ""),
        ("ptq+depthwise", LegalityError, "did you mean depthwise+ptq?"),
        ("channel-prune(ratio=0.1..0.6,macs=0.5)", UsageError, "is empty: none of"),
        ("ptq(bits=1..8)", UsageError, "must be 2 to 8 bit, not '1'"),
        ("ptq(bits=2.5..8)", UsageError, "holds fractions"),
        ("ptq(observer=1..2)", UsageError, "a range needs a number"),
        ("ptq(depth=*)", UsageError, "has no option 'depth'"),
        ("{ptq,qat}(depth=*)", UsageError, "None of ptq, qat has the option 'depth'"),
        ("low-rank(min_parameters=*)", UsageError, "does not declare what it may be (only at least 1)"),
        ("low-rank(min_parameters=1..1000000)", UsageError, "the limit is 10,000"),
        ("nonesuch?", UsageError, "nonesuch"),
    ],
)
def test_an_empty_or_wrong_space_is_refused_before_any_work(
    text: str, error: type[UsageError], said: str
) -> None:
    if not said:  # the part that makes it illegal may be left out
        assert Space(text).size == 1
        return
    with pytest.raises(error) as refused:
        Space(text)
    assert said in refused.value.message
