"""The one-line form of a recipe: what parses, what is refused and where, and that printing loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.recipe_strategies import RECIPES
from zoo.errors import RecipeError, ZooError
from zoo.recipes import Recipe, Stage, parse, parse_stage
from zoo.recipes.grammar import MAX_LENGTH, MAX_OPTIONS, MAX_STAGES


def test_a_recipe_parses_into_its_stages() -> None:
    recipe = parse("stage-prune(drop=1)+depthwise+distill(teacher=unet)+qat(bits=8)")
    assert recipe.stages == (
        Stage("stage-prune", (("drop", "1"),)),
        Stage("depthwise"),
        Stage("distill", (("teacher", "unet"),)),
        Stage("qat", (("bits", "8"),)),
    )


def test_values_stay_text() -> None:
    assert parse("fixed-point(w=0.10)").stages[0].option_map == {"w": "0.10"}
    assert str(parse("fixed-point( w = 0.10 )")) == "fixed-point(w=0.10)"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("qat()", {}),
        ("qat(a=[])", {"a": ()}),
        ("qat(a=[x])", {"a": ("x",)}),
        ('qat(a=[x, "y z" ])', {"a": ("x", "y z")}),
        ('qat(a="")', {"a": ""}),
        ("qat(lr=1e+5, b=-1)", {"lr": "1e+5", "b": "-1"}),
        (r"qat(a=C:\photos)", {"a": r"C:\photos"}),
        (r'qat(a="C:\\photos \"new\" \u00e9\n")', {"a": 'C:\\photos "new" é\n'}),
        (" qat\n(\ta = x\n) ", {"a": "x"}),
        ("qat(a=https://host/path?x#y)", {"a": "https://host/path?x#y"}),
    ],
)
def test_values_may_be_quoted_or_lists(text: str, options: dict[str, object]) -> None:
    assert parse(text).stages[0].option_map == options


def test_a_technique_may_name_its_distribution() -> None:
    assert [stage.technique for stage in parse("zoo-fancy:qat+Zoo.Other:depthwise")] == [
        "zoo-fancy:qat",
        "Zoo.Other:depthwise",
    ]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 0, "the name of a technique is expected here"),
        ("+qat", 0, "the name of a technique"),
        ("qat+", 4, "the name of a technique"),
        ("qat++depthwise", 4, "the name of a technique"),
        ("depthwise+Qat", 10, "'Qat' is not a valid"),
        ("q", 0, "is not a valid"),
        ("qat depthwise", 4, "expected '\\+' and another technique"),
        ("qat(bits=8", 10, "expected ',' and another option, or '\\)'"),
        ("qat(bits=8))", 11, "expected '\\+'"),
        ("qat(bits)", 8, "expected '=' and the value of 'bits'"),
        ("qat(bits=)", 9, "the value of 'bits' is expected here"),
        ("qat(=8)", 4, "a valid option name"),
        ("qat(8=bits)", 4, "a valid option name"),
        ("qat(bits=8,)", 11, "a valid option name"),
        ("qat(bits=8,bits=4)", 11, "'bits' is given twice"),
        ("qat(a=[x,)", 9, "a value of 'a'"),
        ("qat(a=[x", 8, "another value, or '\\]'"),
        ("qat(a=[[x]])", 7, "a value of 'a'"),
        ('qat(a="x)', 6, "not closed"),
        ('qat(a="\\q")', 7, "is not an escape"),
        ('qat(a="\\u12")', 7, "is not an escape"),
        ("-x:qat", 0, "is not a valid distribution name"),
        ("a:b:qat", 0, "is not a valid distribution name"),
        ("qat(a=b)\x1b[31m", 8, "expected"),
    ],
)
def test_an_error_points_at_the_column(text: str, column: int, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse(text)
    assert caught.value.column == column
    if text:
        *_, shown, caret = str(caught.value).splitlines()
        assert caret.index("^") - 2 == column
        assert shown.isprintable()


def test_a_long_recipe_is_shown_around_the_error_only() -> None:
    with pytest.raises(RecipeError) as caught:
        parse("qat(a=" + "x" * 500 + ",,b=" + "y" * 500 + ")")
    *_, shown, caret = str(caught.value).splitlines()
    assert len(shown) < 120
    assert shown[caret.index("^") - 1 : caret.index("^") + 1] == ",,"


@pytest.mark.parametrize(
    "text",
    [
        "x" * (MAX_LENGTH + 1),
        "+".join(["qat"] * (MAX_STAGES + 1)),
        "qat(" + ",".join(f"a{i}=1" for i in range(MAX_OPTIONS + 1)) + ")",
        "qat(a=[" + ",".join("1" * 2000) + "])",
        "qat(a=" + "[" * 9000,
        "qat" + "(" * 9000,
        'qat(a="' + "\\" * 9000,
    ],
    ids=["length", "stages", "options", "values", "brackets", "parentheses", "backslashes"],
)
def test_hostile_sizes_are_refused_with_a_short_message(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text)
    assert len(str(caught.value)) < 500


def test_a_dataset_is_one_stage_and_errors_say_so() -> None:
    assert parse_stage("darkroom(photos=/data)", "dataset") == Stage("darkroom", (("photos", "/data"),))
    with pytest.raises(RecipeError, match="The dataset does not parse: only one dataset"):
        parse_stage("darkroom+sid", "dataset")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Stage("Qat"),
        lambda: Stage("a b:qat"),
        lambda: Stage("qat", (("a b", "1"),)),
        lambda: Stage("qat", (("a", "1"), ("a", "2"))),
        lambda: Recipe(()),
        lambda: Recipe((Stage("qat"),) * (MAX_STAGES + 1)),
    ],
)
def test_a_recipe_that_could_not_be_printed_cannot_be_made(make: object) -> None:
    with pytest.raises(RecipeError):
        make()  # type: ignore[operator]


@given(RECIPES)
@example(parse('qat(a="\\ud83d\\ude00")'))
def test_printing_and_parsing_gives_the_same_recipe(recipe: Recipe) -> None:
    text = str(recipe)
    assert parse(text) == recipe
    assert str(parse(text)) == text
    assert not any("\ud800" <= each <= "\udfff" for each in text)
    assert "\x1b" not in text


@given(st.text() | st.text(st.sampled_from('abq19=,+()[]"\\: \n-_é')))
def test_no_text_escapes_as_anything_but_a_zoo_error(text: str) -> None:
    try:
        recipe = parse(text)
    except ZooError as error:
        assert str(error)  # noqa: PT017
    else:
        assert parse(str(recipe)) == recipe


@given(RECIPES, st.data())
def test_no_damage_to_a_recipe_escapes_as_anything_but_a_zoo_error(
    recipe: Recipe, data: st.DataObject
) -> None:
    text = str(recipe)
    at = data.draw(st.integers(0, len(text)))
    damaged = text[:at] + data.draw(st.text(max_size=2)) + text[at + data.draw(st.integers(0, 3)) :]
    try:
        parse(damaged)
    except ZooError as error:
        assert str(error)  # noqa: PT017
