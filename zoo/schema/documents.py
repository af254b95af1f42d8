"""Parsing JSON and TOML from outside within bounds of nesting, length and range."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from zoo.errors import ZooError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DEEPEST = 64
_LONGEST_NUMBER = 1000
_MOST_PARTS = 64
_DIGITS = re.compile(r"[0-9_]+")
#: What keeps keys apart; one part of a key with its dot (a row of dots in a comment is none); the same where the
#: parts are in quotes, which may hold signs.
_SIGNS = re.compile(r"[=,\[\]{}#]")
_PART = re.compile(r"[^.\s][ \t]*\.(?![ \t]*\.)")
_QUOTED_PART = re.compile(r"[\"'][ \t]*\.|\.[ \t]*[\"']")


def parse_json(content: bytes, source: str, *, error: type[ZooError]) -> Any:
    """Return the value of a JSON document; repeated keys, NaN, infinities and absurd nesting are refused."""
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        _check_depth(value)
        return value
    except (ValueError, RecursionError) as reason:
        raise error(f"{source} is not valid JSON: {_first_line(reason)}.") from None


def parse_toml(
    content: bytes, source: str, *, error: type[ZooError], parse_float: Callable[[str], Any] = float
) -> dict[str, Any]:
    """Return the table of a TOML document; absurd nesting, keys and numbers are refused."""
    try:
        text = content.decode("utf-8")
        _check_tokens(text)
        value = tomllib.loads(text, parse_float=parse_float)
        _check_depth(value)
        return value
    except (ValueError, RecursionError) as reason:
        raise error(f"{source} is not valid TOML: {_first_line(reason)}.") from None


def _check_depth(value: Any) -> None:
    """Refuse nesting that only an attack has, and that repr or a copy would not survive."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(_DEEPEST):
        inner = (each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer))
        level = [each for each in inner if isinstance(each, (dict, list))]
    if level:
        raise ValueError("it is nested too deeply")


def _check_tokens(text: str) -> None:
    """Refuse what the TOML parser takes hours (keys of many parts) or gigabytes (endless numbers) for."""
    for match in _DIGITS.finditer(text):
        if match.end() - match.start() > _LONGEST_NUMBER:
            raise ValueError("a number has too many digits")
    for line in text.split("\n"):
        if line.count(".") > _MOST_PARTS:
            runs = (len(_PART.findall(run)) for run in _SIGNS.split(line))
            if max(len(_QUOTED_PART.findall(line)), *runs) > _MOST_PARTS:
                raise ValueError("a key has too many parts")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is repeated")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["it is nested too deeply"])[0].rstrip(".")
