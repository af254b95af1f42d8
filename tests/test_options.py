"""Options are the fields of a Config: typed from text, within their limits, and back to text without loss."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import options
from zoo.errors import PluginError, UnknownIdError, UsageError, ZooError
from zoo.options import Text, format_options, option, options_of, parse_options


class Observer(str, Enum):
    MINMAX = "minmax"
    MEAN = "mean"


@dataclass(frozen=True)
class Config:
    bits: int = option(8, help="width", unit="bit", minimum=2, maximum=8)
    weight: float = option(1.0, minimum=0)
    which: Literal["all", "second"] = "all"
    level: Literal[1, 2] = 1
    per_channel: bool = True
    teacher: str | None = None
    budget: float | Literal["auto"] = "auto"
    observer: Observer = Observer.MINMAX
    folder: Path = Path("photos")
    layers: tuple[str, ...] = ()
    sizes: tuple[int, int] = option((3, 3), minimum=1)


def parsed(**values: Text) -> Config:
    return parse_options("qat", Config, values)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("bits", "4", 4),
        ("bits", "+04", 4),
        ("weight", "1e-3", 0.001),
        ("weight", ".5", 0.5),
        ("which", "second", "second"),
        ("level", "2", 2),
        ("per_channel", "No", False),
        ("per_channel", "1", True),
        ("teacher", "none", None),
        ("teacher", "unet", "unet"),
        ("budget", "auto", "auto"),
        ("budget", "0.5", 0.5),
        ("observer", "mean", Observer.MEAN),
        ("folder", "/a b/c", Path("/a b/c")),
        ("layers", ("a", "b"), ("a", "b")),
        ("layers", "a", ("a",)),
        ("layers", (), ()),
        ("sizes", ("5", "7"), (5, 7)),
    ],
)
def test_text_becomes_a_value_of_the_type(name: str, text: Text, value: object) -> None:
    found = getattr(parsed(**{name: text}), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bits", "9", "qat: option 'bits' must be 2 to 8 bit, not '9'"),
        ("bits", "1", "must be 2 to 8 bit"),
        ("bits", "8.0", "must be a whole number, not '8.0'"),
        ("bits", "eight", "must be a whole number"),
        ("bits", "", "must be a whole number"),
        ("bits", "٤", "must be a whole number"),
        ("bits", "9" * 5000, "must be a whole number"),
        ("bits", ("4", "8"), "one value, not a list"),
        ("weight", "-0.1", "must be at least 0"),
        ("weight", "nan", "must be a number"),
        ("weight", "1e999", "must be a number"),
        ("which", "first", "must be one of all, second, not 'first'"),
        ("level", "3", "must be one of 1, 2"),
        ("per_channel", "maybe", "must be true or false"),
        ("budget", "much", "must be a number or one of auto"),
        ("sizes", ("5",), "a list of 2 values"),
        ("sizes", ("5", "x"), "values are each a whole number"),
        ("sizes", ("5", "0"), "must be at least 1, not '\\[5,0\\]'"),
        ("folder", "", "must be a path"),
    ],
)
def test_a_value_that_does_not_fit_names_the_option_and_what_fits(
    name: str, text: Text, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parsed(**{name: text})
    assert caught.value.exit_code == 2
    assert "zoo info qat" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_unknown_option_gets_did_you_mean() -> None:
    with pytest.raises(UnknownIdError, match=r"qat has no option 'bit'; did you mean 'bits'\?"):
        parsed(bit="8")


def test_hyphens_in_option_names_stand_for_underscores() -> None:
    assert parse_options("qat", Config, {"per-channel": "false"}).per_channel is False
    with pytest.raises(UsageError, match="'per_channel' is given more than once"):
        parse_options("qat", Config, {"per-channel": "false", "per_channel": "true"})


def test_an_option_without_default_must_be_given() -> None:
    @dataclass(frozen=True)
    class Distill:
        teacher: str = option(help="the network to learn from")

    with pytest.raises(UsageError, match=r"distill needs the option 'teacher' \(the network to learn from\)"):
        parse_options("distill", Distill, {})
    assert parse_options("distill", Distill, {"teacher": "unet"}).teacher == "unet"


def test_what_the_class_itself_refuses_is_an_error_of_the_user() -> None:
    @dataclass(frozen=True)
    class Range:
        low: int = 0
        high: int = 1

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    with pytest.raises(UsageError, match="clip: low is above high"):
        parse_options("clip", Range, {"low": "2"})


def test_options_tell_their_type_range_unit_and_default() -> None:
    by_name = {each.name: each for each in options_of(Config)}
    bits = by_name["bits"]
    assert (bits.type_name, bits.range, bits.unit, bits.default, bits.help) == (
        "int",
        "2 to 8",
        "bit",
        8,
        "width",
    )
    assert by_name["which"].range == "one of all, second"
    assert by_name["layers"].type_name == "list of text"
    assert by_name["sizes"].type_name == "[int,int]"
    assert by_name["teacher"].type_name == "text or none"
    assert [each.name for each in options_of(Config)] == [field.name for field in dataclasses.fields(Config)]


def test_a_custom_option_may_still_be_called_written() -> None:
    assert options.Written is options.CustomOption


def test_a_config_that_cannot_hold_options_is_the_plugins_fault() -> None:
    class NoDataclass:
        pass

    @dataclass(frozen=True)
    class Unknown:
        value: Missing = 0  # noqa: F821

    @dataclass(frozen=True)
    class Exotic:
        value: complex = 0j

    for config in (NoDataclass, Unknown):
        with pytest.raises(PluginError):
            options_of(config)
    with pytest.raises(PluginError, match="complex"):
        parse_options("exotic", Exotic, {"value": "1"})


@given(
    st.builds(
        Config,
        bits=st.integers(2, 8),
        weight=st.floats(0, allow_infinity=False),
        which=st.sampled_from(["all", "second"]),
        level=st.sampled_from([1, 2]),
        per_channel=st.booleans(),
        teacher=st.none() | st.text().filter(lambda text: text.lower() != "none"),
        budget=st.just("auto") | st.floats(allow_nan=False, allow_infinity=False),
        observer=st.sampled_from(Observer),
        layers=st.lists(st.text()).map(tuple),
        sizes=st.tuples(st.integers(1), st.integers(1)),
    )
)
def test_formatted_options_parse_to_an_equal_config(config: Config) -> None:
    written = format_options(config)
    assert list(written) == [field.name for field in dataclasses.fields(Config)]
    assert parse_options("qat", Config, written) == config


@given(st.sampled_from(dataclasses.fields(Config)), st.text() | st.lists(st.text()).map(tuple))
def test_no_text_escapes_as_anything_but_a_zoo_error(field: dataclasses.Field[object], text: Text) -> None:
    try:
        config = parsed(**{field.name: text})
    except ZooError:
        return
    assert parse_options("qat", Config, format_options(config)) == config
