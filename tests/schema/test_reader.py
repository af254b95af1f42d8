"""A reader derived from a dataclass takes what its annotations allow, and names the place of what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from zoo.contracts.limits import Key, Limits, Sha256
from zoo.errors import InputError
from zoo.schema import StrictTable, keys_of, parse_json, read

DIGEST = "a1" * 32


@dataclass(frozen=True)
class Part:
    sha256: Sha256
    size: Annotated[int, Limits(1, 9)] = 1


@dataclass(frozen=True)
class Whole:
    name: Annotated[str, Limits(most=5, pattern="[a-z]+")]
    origin: str
    kind: Literal["a", "b"] = "a"
    ratio: Annotated[float | None, Limits(0, 1)] = None
    ready: bool = False
    sides: Annotated[tuple[int, int], Limits(1, 64), Key(required=True)] = (1, 1)
    tags: Annotated[tuple[Annotated[str, Limits(choices=("x", "y"))], ...], Limits(1, 3)] = ("x",)
    factors: Annotated[tuple[float, ...], Limits(most=3)] = ()
    part: Part | None = None
    parts: Annotated[tuple[Part, ...], Key("item"), Limits(most=2)] = ()
    named: Annotated[Mapping[Annotated[str, Limits(pattern="[a-z]+")], Part], Limits(most=2)] = field(
        default_factory=dict
    )
    notes: Annotated[Mapping[str, Annotated[float | str, Limits(most=4)]], Limits(most=3)] = field(
        default_factory=dict
    )


SHORTEST: dict[str, Any] = {"name": "net", "sides": [2, 3]}


def read_whole(value: Any) -> Whole:
    return read(Whole, StrictTable(value, "file.json", error=InputError), origin="here")


def test_absent_keys_take_the_defaults() -> None:
    assert read_whole(SHORTEST) == Whole("net", "here", sides=(2, 3))


def test_every_type_is_read() -> None:
    part = {"sha256": DIGEST, "size": 2}
    found = read_whole(
        {
            **SHORTEST,
            "kind": "b",
            "ratio": 1,
            "ready": True,
            "tags": ["y", "x"],
            "factors": [1, 0.5],
            "part": part,
            "item": [part, {"sha256": DIGEST}],
            "named": {"one": part},
            "notes": {"count": 12, "speed": 1.5, "unit": "ms"},
        }
    )
    expected = Part(DIGEST, 2)
    assert found == Whole(
        "net",
        "here",
        kind="b",
        ratio=1.0,
        ready=True,
        sides=(2, 3),
        tags=("y", "x"),
        factors=(1.0, 0.5),
        part=expected,
        parts=(expected, Part(DIGEST)),
        named={"one": expected},
        notes={"count": 12, "speed": 1.5, "unit": "ms"},
    )
    assert type(found.ratio) is float


def test_null_is_none_where_the_field_may_be_none() -> None:
    assert read_whole({**SHORTEST, "ratio": None, "part": None}) == Whole("net", "here", sides=(2, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "NET"}, "'name' is malformed: 'NET'"),
        ({"name": "networks"}, "'name' is longer than 5 characters"),
        ({"name": 5}, "'name' must be text, not 5"),
        ({"origin": "there"}, "has an unknown key 'origin'"),
        ({"parts": []}, r"has an unknown key 'parts'; did you mean 'part'\."),
        ({"kind": "c"}, "'kind' must be one of a, b, not 'c'"),
        ({"kind": None}, "'kind' must be one of a, b"),
        ({"ratio": 2}, "'ratio' must be a number from 0 to 1, not 2"),
        ({"ready": 1}, "'ready' must be true or false, not 1"),
        ({"sides": [2]}, r"'sides' must be a list of two whole numbers between 1 and 64, not \[2\]"),
        ({"sides": [2, 65]}, "'sides' must be a list of two"),
        ({"sides": [2, True]}, "'sides' must be a list of two"),
        ({"tags": []}, "'tags' must be a list of 1 to 3 texts"),
        ({"tags": ["x", "z"]}, "'tags' may contain only x, y"),
        ({"tags": [["x"]]}, "'tags' may contain only x, y"),
        ({"factors": [1, 2, 3, 4]}, "'factors' must be a list of at most 3 numbers"),
        ({"factors": [0, True]}, r"'factors\[1\]' must be a finite number, not True"),
        ({"factors": [float("nan")]}, r"'factors\[0\]' must be a finite number, not nan"),
        ({"part": []}, "'part' must be a table of keys and values"),
        ({"part": {}}, r"'part\.sha256' is missing"),
        ({"part": {"sha256": DIGEST.upper()}}, r"'part\.sha256' is malformed"),
        (
            {"part": {"sha256": DIGEST, "size": 10}},
            r"'part\.size' must be a whole number from 1 to 9, not 10",
        ),
        ({"part": {"sha256": DIGEST, "sise": 2}}, r"'part' has an unknown key 'sise'; did you mean 'size'"),
        ({"item": {}}, "'item' must be a list of at most 2 tables"),
        ({"item": [{"sha256": DIGEST}, 5]}, r"'item\[1\]' must be a table"),
        ({"named": {"a b": {"sha256": DIGEST}}}, "'named' has a malformed key 'a b'"),
        ({"named": {"a": {"size": 1}}}, r"'named\.a\.sha256' is missing"),
        ({"notes": dict.fromkeys("abcd", 1)}, "'notes' holds 4 entries; the limit is 3"),
        ({"notes": {"a": "longer"}}, r"'notes\.a' is longer than 4"),
        ({"notes": {"a": [1]}}, r"'notes\.a' must be text"),
    ],
)
def test_a_wrong_value_is_refused_by_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"^file\.json:? {message}") as caught:
        read_whole({**SHORTEST, **change})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("key", ["name", "sides"])
def test_a_required_key_that_is_missing_is_named(key: str) -> None:
    with pytest.raises(InputError, match=f"'{key}' is missing"):
        read_whole({name: value for name, value in SHORTEST.items() if name != key})


def test_a_repeated_key_is_refused() -> None:
    with pytest.raises(InputError, match="a key is repeated"):
        parse_json(b'{"name": "net", "name": "other"}', "file.json", error=InputError)


def test_the_keys_of_a_file_are_those_of_the_fields_it_holds() -> None:
    keys = keys_of(Whole, "origin")
    assert keys[0] == "name"
    assert "item" in keys
    assert not {"origin", "parts"} & set(keys)


def test_a_type_that_no_file_holds_is_a_fault_of_the_program() -> None:
    @dataclass(frozen=True)
    class Exotic:
        value: complex

    with pytest.raises(TypeError, match="complex"):
        read(Exotic, StrictTable({"value": 1}, "file.json", error=InputError))
