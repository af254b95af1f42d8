"""The one-line form of a recipe: ``stage-prune(drop=1)+depthwise+distill(teacher=unet)+qat(bits=8)``.

::

    recipe = stage {"+" stage}
    stage  = [distribution ":"] id ["(" [option {"," option}] ")"]
    option = name "=" value
    value  = text | "[" [text {"," text}] "]"
    text   = bare word | '"' characters, with the escapes \\" \\\\ \\n \\r \\t \\uXXXX '"'

Spaces between the parts mean nothing. Values stay text here: only the technique knows their types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from zoo.errors import RecipeError
from zoo.options import Text

#: Limits against hostile input; far beyond any recipe that a machine could run.
MAX_LENGTH = 20_000
MAX_STAGES = 64
MAX_OPTIONS = 64
MAX_ITEMS = 1024

_ID = re.compile(r"[a-z][a-z0-9-]{1,31}", re.ASCII)
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?", re.ASCII)
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_SPACE = re.compile(r"\s*")
_TOKEN = re.compile(r'[()\[\],=]|"(?:[^"\\]|\\.)*"|[^\s()\[\],="]+', re.DOTALL)
_NAME = re.compile(r"[^\s()\[\],=\"+]+")
_BARE = re.compile(r'[^\s()\[\],="]+')
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.?)", re.DOTALL)
_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Stage:
    """One technique with its options as written.

    Attributes:
        technique: An id or ``distribution:id``.

    Raises:
        RecipeError: A name is not one that the grammar can hold.
    """

    technique: str
    options: tuple[tuple[str, Text], ...] = ()

    def __post_init__(self) -> None:
        _check_technique(self.technique, self.technique, 0)
        if len(self.options) > MAX_OPTIONS:
            raise RecipeError(f"{self.technique} has more than {MAX_OPTIONS} options.")
        names = [name for name, _ in self.options]
        for name, value in self.options:
            if not _OPTION.fullmatch(name):
                raise RecipeError(f"'{name[:70]}' is not a valid option name.")
            if names.count(name) > 1:
                raise RecipeError(f"{self.technique}: option '{name}' is given more than once.")
            if isinstance(value, tuple) and len(value) > MAX_ITEMS:
                raise RecipeError(f"{self.technique}: option '{name}' has more than {MAX_ITEMS} values.")

    @classmethod
    def of(cls, technique: str, options: Mapping[str, Text] | None = None) -> Stage:
        """Return a stage with its options from a mapping."""
        return cls(technique, tuple((options or {}).items()))

    @property
    def option_map(self) -> dict[str, Text]:
        """Return the options by name, as :func:`zoo.options.parse_options` takes them."""
        return dict(self.options)

    def __str__(self) -> str:
        if not self.options:
            return self.technique
        return f"{self.technique}({','.join(f'{name}={format_text(value)}' for name, value in self.options)})"


@dataclass(frozen=True)
class Recipe:
    """Stages in the order they are applied; ``str()`` gives a line that parses to an equal recipe."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise RecipeError(
                "A recipe needs at least one technique.", hint="List them with:  zoo list techniques"
            )
        if len(self.stages) > MAX_STAGES:
            raise RecipeError(f"A recipe may have at most {MAX_STAGES} stages, not {len(self.stages)}.")

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Parse a recipe such as ``depthwise+qat(bits=8)``.

        Raises:
            RecipeError: It is wrong; the message points at the column.
        """
        return parse(text)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __str__(self) -> str:
        return "+".join(map(str, self.stages))


def parse(text: str) -> Recipe:
    """Parse a recipe of one or more stages.

    Raises:
        RecipeError: It is wrong; the message points at the column.
    """
    parser = Parser(text, "recipe")
    stages = [parser.stage("technique")]
    while not parser.at_end():
        parser.expect("+", "'+' and another technique, or the end")
        stages.append(parser.stage("technique"))
        if len(stages) > MAX_STAGES:
            raise parser.error(f"A recipe may have at most {MAX_STAGES} stages")
    return Recipe(tuple(stages))


def parse_stage(text: str, what: str = "technique") -> Stage:
    """Parse one ``name(option=value,...)``, such as a dataset; `what` is named in errors."""
    parser = Parser(text, what)
    stage = parser.stage(what)
    if not parser.at_end():
        raise parser.error(f"only one {what} is expected here")
    return stage


# --------------------------------------------------------------------------------------------------- details


class Parser:
    """Recursive descent over `text`; `at` is the column of the next token.

    Attributes:
        token: What a token looks like.
        name: What the name of a technique looks like.
        bare: What a value looks like that needs no quotes.
    """

    token: ClassVar[re.Pattern[str]] = _TOKEN
    name: ClassVar[re.Pattern[str]] = _NAME
    bare: ClassVar[re.Pattern[str]] = _BARE

    def __init__(self, text: str, subject: str) -> None:
        if len(text) > MAX_LENGTH:
            raise RecipeError(f"The {subject} has {len(text)} characters; the limit is {MAX_LENGTH}.")
        self.text = text
        self.subject = subject
        self.at = 0
        self._skip_space()

    def stage(self, what: str) -> Stage:
        start = self.at
        name = self.name.match(self.text, self.at)
        if not name:
            raise self.error(f"the name of a {what} is expected here")
        _check_technique(name[0], self.text, start, what)
        self._move(name.end())
        options: list[tuple[str, Text]] = []
        if self._next() == "(":
            self._take()
            if self._next() != ")":
                self._options(options)
            self.expect(")", "',' and another option, or ')'")
        return Stage(name[0], tuple(options))

    def _options(self, options: list[tuple[str, Text]]) -> None:
        seen: set[str] = set()
        while True:
            start, name = self.at, self._next()
            if not _OPTION.fullmatch(name):
                raise self.error("a valid option name is expected here")
            if name in seen:
                raise self.error(f"option '{name}' is given twice")
            seen.add(name)
            self._take()
            self.expect("=", f"'=' and the value of '{name}'")
            options.append((name, self._value(name)))
            if len(options) > MAX_OPTIONS:
                raise self.error(f"a technique may have at most {MAX_OPTIONS} options", start)
            if self._next() != ",":
                return
            self._take()

    def _value(self, name: str) -> Text:
        if self._next() != "[":
            return self._text(f"the value of '{name}'")
        self._take()
        items: list[str] = []
        while self._next() != "]":
            items.append(self._text(f"a value of '{name}' or ']'"))
            if len(items) > MAX_ITEMS:
                raise self.error(f"a list may have at most {MAX_ITEMS} values")
            if self._next() == "]":
                break
            self.expect(",", "',' and another value, or ']'")
            if self._next() == "]":
                raise self.error(f"a value of '{name}' is expected here")
        self._take()
        return tuple(items)

    def _text(self, what: str) -> str:
        token = self._next()
        if token.startswith('"'):
            value = self._unquote(token)
        elif self.bare.fullmatch(token):
            value = token
        else:
            raise self.error(f"{what} is expected here")
        self._take()
        return value

    def _unquote(self, token: str) -> str:
        for escape in _ESCAPE.finditer(token, 1, len(token) - 1):
            if escape[1] not in _ESCAPES and len(escape[1]) != 5:
                raise self.error(
                    f"'{escape[0]}' is not an escape; a backslash is written \\\\", self.at + escape.start()
                )
        return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1]) or chr(int(escape[1][1:], 16)), token[1:-1])

    def expect(self, token: str, what: str) -> None:
        if not self.text.startswith(token, self.at):
            raise self.error(f"expected {what}")
        self._move(self.at + 1)

    def at_end(self) -> bool:
        return self.at == len(self.text)

    def error(self, message: str, column: int | None = None) -> RecipeError:
        column = self.at if column is None else column
        where = "at the end" if column >= len(self.text) else f"at column {column + 1}"
        return RecipeError(
            f"The {self.subject} does not parse: {message} ({where}).", text=self.text, column=column
        )

    def _next(self) -> str:
        """The token at the current column, which stays; empty at the end."""
        token = self.token.match(self.text, self.at)
        if token:
            return token[0]
        if not self.at_end():
            raise self.error('this quote is not closed with another "')
        return ""

    def _take(self) -> None:
        self._move(self.at + len(self._next()))

    def _move(self, at: int) -> None:
        self.at = at
        self._skip_space()

    def _skip_space(self) -> None:
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at


def _check_technique(name: str, text: str, column: int, what: str = "technique") -> None:
    distribution, colon, plain = name.rpartition(":")
    if colon and not _DISTRIBUTION.fullmatch(distribution):
        raise RecipeError(
            f"'{distribution[:130]}' is not a valid distribution name.", text=text, column=column
        )
    if not _ID.fullmatch(plain):
        raise RecipeError(
            f"'{plain[:40]}' is not a valid {what} id; ids are 2 to 32 characters of a-z, 0-9 and hyphen.",
            text=text,
            column=column + len(name) - len(plain),
        )


def format_text(value: Text, bare: Callable[[str], bool] = lambda text: True) -> str:
    """Return the value of an option as it is written in a recipe.

    Args:
        value: A text or a list of texts.
        bare: Whether a text that the grammar of recipes accepts without quotes may be written without them.
    """
    if not isinstance(value, str):
        return f"[{','.join(format_text(text, bare) for text in value)}]"
    if _BARE.fullmatch(value) and value.isprintable() and bare(value):
        return value
    plain = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(map(_print_character, plain)) + '"'


def _print_character(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if short or character.isprintable() or ord(character) > 0xFFFF:
        return short or character
    return f"\\u{ord(character):04x}"
