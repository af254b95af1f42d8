"""One table of a file from outside, whose values are checked as they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from zoo.errors import ZooError
from zoo.extras import IN_THE_CLONE, install_command
from zoo.suggest import did_you_mean
from zoo.version import __version__

#: The largest whole number that a float holds exactly.
LARGEST_INTEGER = 2**53
LONGEST_TEXT = 4096
_REQUIRED: Any = object()


class StrictTable:
    """The members of one JSON object or TOML table.

    Each reading method marks its key as known; :meth:`close` refuses the others. Keys that may be absent are
    given a default.

    Args:
        value: The table as it was parsed.
        source: The file, for messages.
        place: Where the table is in the file, for messages; "" for the file's own.
        error: The error to raise.
    """

    def __init__(self, value: Any, source: str, place: str = "", *, error: type[ZooError]) -> None:
        self._source, self._place, self._error = source, place, error
        if not isinstance(value, dict):
            self.refuse("must be a table of keys and values")
        self._members: dict[str, Any] = value
        self._known: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def refuse(self, reason: str, key: str = "", hint: str | None = None) -> NoReturn:
        """Refuse a value, naming the file and the place.

        Raises:
            ZooError: Always; of the table's kind of error.
        """
        place = self._place_of(key)
        at = f": '{place if place.isprintable() else ascii(place)[1:-1]}' " if place else " "
        raise self._error(f"{self._source}{at}{reason}.", hint=hint)

    def check_format(self, kind: str, newest: int) -> None:
        """Read the key `format`, and refuse a newer one than `newest`, naming both versions and the upgrade."""
        found = self.integer("format", least=1)
        if found > newest:
            raise self._error(
                f"{self._source} is in {kind} format {found}; "
                f"compression-zoo {__version__} reads formats up to {newest}.",
                hint=f"Upgrade with, {IN_THE_CLONE}:  git pull && {install_command()}",
            )

    def close(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._members:
            if key not in self._known:
                self.refuse(f"has an unknown key {shown(key)}{did_you_mean(key, self._known).rstrip('?')}")

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        """Return a value of any type."""
        self._known.add(key)
        if key in self._members:
            return self._members[key]
        if default is _REQUIRED:
            self.refuse("is missing", key)
        return default

    def text(
        self, key: str, default: Any = _REQUIRED, *, pattern: str = ".*", longest: float = LONGEST_TEXT
    ) -> str:
        """Return a printable line that matches `pattern` and has at most `longest` characters."""
        return self.check_text(self.get(key, default), key, pattern=pattern, longest=longest)

    def integer(
        self, key: str, default: Any = _REQUIRED, *, least: float = 0, most: float = LARGEST_INTEGER
    ) -> int:
        """Return a whole number between `least` and `most`, both included."""
        return self.check_integer(self.get(key, default), key, least=least, most=most)

    def number(self, key: str, default: Any = _REQUIRED, *, least: float, most: float) -> float:
        """Return a finite number between `least` and `most`, both included."""
        return self.check_number(self.get(key, default), key, least=least, most=most)

    def boolean(self, key: str, default: Any = _REQUIRED) -> bool:
        """Return true or false."""
        return self.check_boolean(self.get(key, default), key)

    def numbers(self, key: str, *, longest: int) -> tuple[float, ...]:
        """Return a list of at most `longest` finite numbers; absent means empty."""
        value = self.check_list(self.get(key, []), key, "numbers", most=longest)
        return tuple(self.check_number(item, f"{key}[{place}]") for place, item in enumerate(value))

    def table(self, key: str, default: Any = _REQUIRED) -> StrictTable:
        """Return a nested table."""
        return self.nested(self.get(key, default), key)

    def list_of_tables(self, key: str, *, most: int) -> list[StrictTable]:
        """Return a list of at most `most` tables; absent means empty."""
        value = self.check_list(self.get(key, []), key, "tables", most=most)
        return [self.nested(item, f"{key}[{place}]") for place, item in enumerate(value)]

    def tables(self, *, most: float, pattern: str = ".*") -> Mapping[str, StrictTable]:
        """Return all members as nested tables, for a table whose keys are names."""
        return {key: self.table(key) for key in self.names(most=most, pattern=pattern)}

    def names(self, *, most: float, pattern: str = ".*") -> list[str]:
        """Return all keys, at most `most` printable ones that match `pattern`."""
        if len(self._members) > most:
            self.refuse(f"holds {len(self._members)} entries; the limit is {most}")
        for key in self._members:
            if not key.isprintable():
                self.refuse("must be printable", key)
            if not re.fullmatch(pattern, key):
                self.refuse(f"has a malformed key {shown(key)}")
        return list(self._members)

    # ------------------------------------------------------------------------------ values that are at hand

    def nested(self, value: Any, key: str) -> StrictTable:
        """Return `value`, which stands at `key`, as a table."""
        return StrictTable(value, self._source, self._place_of(key), error=self._error)

    def check_text(self, value: Any, key: str, *, pattern: str = ".*", longest: float = LONGEST_TEXT) -> str:
        """Return `value`, which stands at `key`, if it is as :meth:`text` wants it."""
        if not isinstance(value, str):
            self.refuse(f"must be text, not {shown(value)}", key)
        if len(value) > longest:
            self.refuse(f"is longer than {longest} characters", key)
        if not re.fullmatch(pattern, value) or not value.isprintable():
            self.refuse(f"is malformed: {shown(value)}", key)
        return value

    def check_integer(self, value: Any, key: str, *, least: float = 0, most: float = LARGEST_INTEGER) -> int:
        """Return `value`, which stands at `key`, if it is as :meth:`integer` wants it."""
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(f"must be a whole number from {least} to {most}, not {shown(value)}", key)
        return value

    def check_number(
        self, value: Any, key: str, *, least: float = -LARGEST_INTEGER, most: float = LARGEST_INTEGER
    ) -> float:
        """Return `value`, which stands at `key`, if it is as :meth:`number` wants it."""
        if not is_number(value) or not least <= value <= most:
            bounded = most < LARGEST_INTEGER
            what = f"a number from {least:g} to {most:g}" if bounded else "a finite number"
            self.refuse(f"must be {what}, not {shown(value)}", key)
        return float(value)

    def check_boolean(self, value: Any, key: str) -> bool:
        """Return `value`, which stands at `key`, if it is true or false."""
        if not isinstance(value, bool):
            self.refuse(f"must be true or false, not {shown(value)}", key)
        return value

    def check_choice(self, value: Any, key: str, choices: tuple[str, ...]) -> str:
        """Return `value`, which stands at `key`, if it is one of a few words."""
        if not isinstance(value, str) or value not in choices:
            self.refuse(f"must be one of {', '.join(choices)}, not {shown(value)}", key)
        return value

    def check_list(self, value: Any, key: str, what: str, *, least: float = 0, most: float) -> list[Any]:
        """Return `value`, which stands at `key`, if it is a list of `least` to `most` items, whatever they are."""
        if not isinstance(value, list) or not least <= len(value) <= most:
            count = f"{least} to {most}" if least else f"at most {most}"
            self.refuse(f"must be a list of {count} {what}", key)
        return value

    def _place_of(self, key: str) -> str:
        return f"{self._place}.{key}" if self._place and key else self._place or key


def is_number(value: Any) -> bool:
    """Return whether `value` is a finite number that a float holds without harm."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER


def shown(value: Any) -> str:
    """Return a short form of any value, for messages."""
    written = ascii(value)
    return written if len(written) <= 60 else written[:57] + "..."
