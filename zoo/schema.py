"""Reading JSON and TOML from outside: every key known, every value of its type and within bounds.

Nothing but the error type that was asked for escapes, whatever the bytes are.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from zoo.errors import ZooError
from zoo.suggest import did_you_mean
from zoo.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SHA256 = r"[0-9a-f]{64}"
_LARGEST_INTEGER = 2**53
_REQUIRED: Any = object()
_DEEPEST = 64
_LONGEST_NUMBER = 1000
_MOST_PARTS = 64
_DIGITS = re.compile(r"[0-9_]+")
#: What keeps keys apart; one part of a key with its dot (a row of dots in a comment is none); the same where the
#: parts are in quotes, which may hold signs.
_SIGNS = re.compile(r"[=,\[\]{}#]")
_PART = re.compile(r"[^.\s][ \t]*\.(?![ \t]*\.)")
_QUOTED_PART = re.compile(r"[\"'][ \t]*\.|\.[ \t]*[\"']")


class Fields:
    """The members of one JSON object or TOML table.

    source, place: the file and the place in it, for messages. error: the ZooError to raise. Each reading
    method marks its key as known; :meth:`close` refuses the others. Optional keys are given a default.
    """

    def __init__(self, value: Any, source: str, place: str = "", *, error: type[ZooError]) -> None:
        self._source, self._place, self._error = source, place, error
        if not isinstance(value, dict):
            self.refuse("must be a table of keys and values")
        self._members: dict[str, Any] = value
        self._known: set[str] = set()

    def refuse(self, reason: str, key: str = "", hint: str | None = None) -> NoReturn:
        """Raise the error, naming the file and the place."""
        place = ".".join(part for part in (self._place, key) if part)
        at = f": '{place if place.isprintable() else ascii(place)[1:-1]}' " if place else " "
        raise self._error(f"{self._source}{at}{reason}.", hint=hint)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def check_format(self, kind: str, newest: int) -> None:
        """Read the key `format`, and refuse a newer one than `newest`, naming both versions and the upgrade."""
        found = self.integer("format", least=1)
        if found > newest:
            raise self._error(
                f"{self._source} is in {kind} format {found}; "
                f"compression-zoo {__version__} reads formats up to {newest}.",
                hint="Upgrade with:  pip install --upgrade compression-zoo",
            )

    def close(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._members:
            if key not in self._known:
                self.refuse(f"has an unknown key {_shown(key)}{did_you_mean(key, self._known).rstrip('?')}")

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        """A value of any type."""
        self._known.add(key)
        if key in self._members:
            return self._members[key]
        if default is _REQUIRED:
            self.refuse("is missing", key)
        return default

    def text(self, key: str, default: Any = _REQUIRED, *, pattern: str = ".*", longest: int = 4096) -> str:
        """A printable line that matches `pattern` from end to end and has at most `longest` characters."""
        return self.check_text(self.get(key, default), key, pattern=pattern, longest=longest)

    def check_text(self, value: Any, key: str, *, pattern: str, longest: int = 4096) -> str:
        """The same for a value that was not read from `key`."""
        if not isinstance(value, str):
            self.refuse(f"must be text, not {_shown(value)}", key)
        if len(value) > longest:
            self.refuse(f"is longer than {longest} characters", key)
        if not re.fullmatch(pattern, value) or not value.isprintable():
            self.refuse(f"does not look as it should: {_shown(value)}", key)
        return value

    def sha256(self, key: str) -> str:
        """Sixty-four lower-case hexadecimal digits."""
        return self.text(key, pattern=_SHA256, longest=64)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of a few words."""
        value = self.get(key)
        if value not in choices or not isinstance(value, str):
            self.refuse(f"must be one of {', '.join(choices)}, not {_shown(value)}", key)
        return value

    def integer(
        self, key: str, default: Any = _REQUIRED, *, least: int = 0, most: int = _LARGEST_INTEGER
    ) -> int:
        """A whole number between `least` and `most`, both included."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(f"must be a whole number from {least} to {most}, not {_shown(value)}", key)
        return value

    def number(self, key: str, default: Any = _REQUIRED, *, least: float, most: float) -> float:
        """A finite number between `least` and `most`, both included."""
        value = self.get(key, default)
        if not _is_number(value) or not least <= value <= most:
            self.refuse(f"must be a number from {least:g} to {most:g}, not {_shown(value)}", key)
        return float(value)

    def boolean(self, key: str, default: Any = _REQUIRED) -> bool:
        """True or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            self.refuse(f"must be true or false, not {_shown(value)}", key)
        return value

    def numbers(self, key: str, *, longest: int) -> tuple[float, ...]:
        """A list of at most `longest` finite numbers; absent means empty."""
        value = self.get(key, [])
        if not isinstance(value, list) or len(value) > longest:
            self.refuse(f"must be a list of at most {longest} numbers", key)
        for item in value:
            if not _is_number(item):
                self.refuse(f"must hold finite numbers, not {_shown(item)}", key)
        return tuple(float(item) for item in value)

    def table(self, key: str, default: Any = _REQUIRED) -> Fields:
        """A nested object."""
        place = ".".join(part for part in (self._place, key) if part)
        return Fields(self.get(key, default), self._source, place, error=self._error)

    def list_of_tables(self, key: str, *, most: int) -> list[Fields]:
        """A list of at most `most` objects; absent means empty."""
        value = self.get(key, [])
        if not isinstance(value, list) or len(value) > most:
            self.refuse(f"must be a list of at most {most} tables", key)
        place = ".".join(part for part in (self._place, key) if part)
        return [
            Fields(item, self._source, f"{place}[{number}]", error=self._error)
            for number, item in enumerate(value)
        ]

    def tables(self, *, most: int) -> Mapping[str, Fields]:
        """All members as nested objects, for tables whose keys are names; at most `most` of them."""
        return {key: self.table(key) for key in self._at_most(most)}

    def texts(self, *, most: int, longest: int) -> dict[str, str]:
        """All members as strings, for tables whose keys are names; at most `most` of them."""
        return {key: self.text(key, longest=longest) for key in self._at_most(most)}

    def values(self, *, most: int) -> dict[str, float | str]:
        """All members as numbers or short texts, for tables whose keys are names; at most `most` of them."""
        result: dict[str, float | str] = {}
        for key in self._at_most(most):
            value = self.get(key)
            result[key] = value if _is_number(value) else self.text(key, longest=1000)
        return result

    def _at_most(self, most: int) -> list[str]:
        if len(self._members) > most:
            self.refuse(f"holds {len(self._members)} entries; {most} are the most there may be")
        for key in self._members:
            if not key.isprintable():
                self.refuse("must be printable", key)
        return list(self._members)


def parse_json(content: bytes, source: str, *, error: type[ZooError]) -> Any:
    """The value of a JSON document; repeated keys, NaN, infinities and absurd nesting are refused."""
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
    """The table of a TOML document; absurd nesting, keys and numbers are refused."""
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


def _is_number(value: Any) -> bool:
    """Whether it is a finite number that a float holds without harm."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_INTEGER


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["it is nested too deeply"])[0].rstrip(".")


def _shown(value: Any) -> str:
    written = ascii(value)
    return written if len(written) <= 60 else written[:57] + "..."
