"""The TOML form of a recipe: exact round trips, every spelling of a value, and hostile files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.recipe_strategies import RECIPES
from zoo.errors import InputError, OutputError, RecipeError, ZooError
from zoo.recipes import Recipe, parse, recipe_toml
from zoo.recipes.recipe_toml import RecipeFile, dumps, loads

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = """\
architecture = "unet"
seed = 7
minutes = 3.5

[[stage]]
technique = "depthwise"

[stage.options]
which = "all"
w = 0.10

[[stage]]
technique = "qat"
"""


def encodable(recipe: Recipe) -> bool:
    values = [value for stage in recipe for _, value in stage.options]
    text = "".join(value if isinstance(value, str) else "".join(value) for value in values)
    return not any("\ud800" <= each <= "\udfff" for each in text)


LINES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=50).filter(str.isprintable)
COUNTS = st.integers(1, 2**16)
FILES = st.builds(
    RecipeFile,
    RECIPES.filter(encodable),
    architecture=st.none() | LINES,
    seed=st.none() | st.integers(0, 2**53),
    steps=st.none() | st.lists(st.integers(0, 2**53), min_size=1, max_size=3).map(tuple),
    minutes=st.none() | st.floats(0, 1e9),
    data=st.none() | LINES,
    weights=st.none() | LINES,
    batch=st.none() | COUNTS,
    crop=st.none() | COUNTS,
    learning_rate=st.none() | st.floats(0, 1e3),
    precision=st.none() | LINES,
)


def test_a_file_holds_the_recipe_and_what_else_a_run_needs() -> None:
    form = loads(EXAMPLE)
    assert form == RecipeFile(parse("depthwise(which=all,w=0.10)+qat"), "unet", seed=7, minutes=3.5)
    assert dumps(form) == EXAMPLE


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("8", "8"),
        ("1_000", "1000"),
        ("0x10", "16"),
        ("0.10", "0.10"),
        ("1_0.5e-3", "10.5e-3"),
        ("true", "true"),
        ("'8'", "8"),
        ('"a\\tb"', "a\tb"),
        ("[1, 2.50, 'x', false]", ("1", "2.50", "x", "false")),
        ("[]", ()),
        ("inf", "inf"),
    ],
)
def test_each_spelling_of_a_value_is_read_as_text(literal: str, value: object) -> None:
    form = loads(f"[[stage]]\ntechnique = 'qat'\noptions.a = {literal}\n")
    assert form.recipe.stages[0].option_map == {"a": value}


@pytest.mark.parametrize(
    "text", ["8", "-8", "0.10", "1e-3", "true", "-0", "08", "1.", "+1", "inf", "1_0", "9" * 40]
)
def test_a_number_is_written_as_one_and_read_back_as_it_was(text: str) -> None:
    recipe = parse(f"qat(a={text})")
    assert loads(dumps(RecipeFile(recipe))).recipe == recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no stage"),
        ("architecture = 'unet'", "has no stage"),
        ("stage = 1", "'stage' must be a list"),
        ("[stage]\ntechnique = 'qat'", "'stage' must be a list"),
        ("[[stage]]", r"'stage\[0\]\.technique' is missing"),
        ("[[stage]]\ntechnique = 8", "must be text, not 8"),
        ("[[stage]]\ntechnique = 'Qat'", r"'stage\[0\]' is wrong: 'Qat' is not a valid technique id"),
        ("[[stage]]\ntechnique = 'qat'\nbits = 8", "unknown key 'bits'"),
        (
            "[[stage]]\ntechnique = 'qat'\noptions.a = {b = 1}",
            r"'stage\[0\]\.options\.a' must be text, a number",
        ),
        ("[[stage]]\ntechnique = 'qat'\noptions.a = [[1]]", "must be text, a number"),
        ("[[stage]]\ntechnique = 'qat'\noptions.a = 1979-05-27", "must be text, a number"),
        ("[[stage]]\ntechnique = 'qat'\noptions.a = 9007199254740993", "must be text, a number"),
        ("[[stage]]\ntechnique = 'qat'\noptions.'a b' = 1", "is not a valid option name"),
        ("architectur = 'unet'\n[[stage]]\ntechnique = 'qat'", "did you mean 'architecture'"),
        ("seed = -1\n[[stage]]\ntechnique = 'qat'", "'seed' must be a whole number from 0"),
        ("seed = 1.0\n[[stage]]\ntechnique = 'qat'", "'seed' must be a whole number"),
        ("minutes = nan\n[[stage]]\ntechnique = 'qat'", "'minutes' must be a number"),
        ("minutes = 'ten'\n[[stage]]\ntechnique = 'qat'", "'minutes' must be a number"),
        ("steps = []\n[[stage]]\ntechnique = 'qat'", "'steps' must be a whole number, or a list"),
        ("steps = [true]\n[[stage]]\ntechnique = 'qat'", "'steps' must be a whole number, or a list"),
        ("batch = 0\n[[stage]]\ntechnique = 'qat'", "'batch' must be a whole number from 1"),
        ("data = 1\n[[stage]]\ntechnique = 'qat'", "'data' must be text"),
        ("a = 1\na = 2", "not valid TOML"),
        ("a = " + "[" * 100_000, "not valid TOML"),
        ("a = " + "9" * 5000, "not valid TOML"),
        ("[[stage]]\ntechnique = 'qat'\noptions.a = 0x" + "f" * 9999, "must be text, a number"),
        ("[[stage]]\ntechnique = 'qat'\n" * 65, "'stage' must be a list of at most 64"),
        ("#" * (1 << 20) + "\n", "bytes; the limit is"),
        ("\ud800", "not valid TOML"),
        (b"\xff", "not valid TOML"),
    ],
)
def test_a_hostile_file_is_refused_naming_the_place(content: str | bytes, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        loads(content, "recipe.toml")
    assert str(caught.value).startswith("recipe.toml")
    assert len(str(caught.value)) < 300


def test_a_recipe_file_is_written_and_read(tmp_path: Path) -> None:
    form = loads(EXAMPLE)
    recipe_toml.write(tmp_path / "recipe.toml", form)
    assert recipe_toml.read(tmp_path / "recipe.toml") == form


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    for unreadable in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(InputError, match=unreadable.name):
            recipe_toml.read(unreadable)
    with pytest.raises(OutputError, match="absent"):
        recipe_toml.write(tmp_path / "absent" / "recipe.toml", loads(EXAMPLE))


def test_what_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(RecipeError, match="lone surrogate"):
        dumps(RecipeFile(parse(r'qat(a="\ud800")')))
    with pytest.raises(RecipeError, match="inf"):
        dumps(RecipeFile(parse("qat"), minutes=float("inf")))


@given(FILES)
def test_writing_and_reading_gives_the_same(form: RecipeFile) -> None:
    text = dumps(form)
    tomllib.loads(text)
    assert loads(text) == form
    assert loads(text.encode()) == form


@given(st.text() | st.binary())
def test_no_content_escapes_as_anything_but_a_zoo_error(content: str | bytes) -> None:
    try:
        loads(content)
    except ZooError as error:
        assert str(error)  # noqa: PT017


@given(FILES, st.data())
def test_no_damage_to_a_file_escapes_as_anything_but_a_zoo_error(
    form: RecipeFile, data: st.DataObject
) -> None:
    text = dumps(form)
    at = data.draw(st.integers(0, len(text)))
    damaged = text[:at] + data.draw(st.sampled_from(["", "=", "[", '"', "\0", "1", "{"])) + text[at + 1 :]
    try:
        loads(damaged)
    except ZooError as error:
        assert str(error)  # noqa: PT017
