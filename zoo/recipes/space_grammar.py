"""The one-line form of a space of recipes: ``depthwise?+channel-prune(ratio=0.1..0.6)?+{ptq,qat}(bits={4,8})``.

It extends the grammar of recipes, so that a recipe is a space of one::

    space   = part {"+" part}
    part    = "*" | (stage | choice) ["?"]
    stage   = [distribution ":"] id [options]
    choice  = "{" stage {"," stage} "}" [options]
    options = "(" [name "=" domain {"," name "=" domain}] ")"
    domain  = value | "{" value {"," value} "}" | number ".." number [":" step] | "*"

`?` marks a part that may be left out; the options behind a choice are those of every technique in it that has them.
`*` as a domain is everything that the option declares, and as a part every installed technique, each of which may be
left out. What is quoted is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from zoo.errors import RecipeError
from zoo.options import Text
from zoo.recipes.grammar import MAX_OPTIONS, MAX_STAGES, Parser, Recipe, Stage, format_text

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::({_NUMBER}))?", re.ASCII)
_SPECIAL = re.compile(r"[{}?*]|\.\.")


@dataclass(frozen=True)
class OneOf:
    """Values listed one by one."""

    values: tuple[Text, ...]

    def __str__(self) -> str:
        texts = [format_text(value, _is_plain) for value in self.values]
        return texts[0] if len(texts) == 1 else f"{{{','.join(texts)}}}"


@dataclass(frozen=True)
class Between:
    """Numbers from one to another, both included.

    Attributes:
        step: Their distance; None for 1 between whole numbers, and a twentieth of the range otherwise.
    """

    low: Decimal
    high: Decimal
    step: Decimal | None = None

    def __str__(self) -> str:
        return f"{self.low}..{self.high}" + ("" if self.step is None else f":{self.step}")


@dataclass(frozen=True)
class Declared:
    """Everything that an option declares."""

    def __str__(self) -> str:
        return "*"


Domain = OneOf | Between | Declared


@dataclass(frozen=True)
class OpenStage:
    """A technique whose options are domains."""

    technique: str
    options: tuple[tuple[str, Domain], ...] = ()

    def __str__(self) -> str:
        return self.technique + _written(self.options)


@dataclass(frozen=True)
class SpacePart:
    """One part of a space.

    Attributes:
        choices: The techniques to choose from; empty for every installed one.
        optional: Whether it may be left out.
        shared: Options of every choice that has them.
    """

    choices: tuple[OpenStage, ...]
    optional: bool = False
    shared: tuple[tuple[str, Domain], ...] = field(default=())

    def __str__(self) -> str:
        if not self.choices:
            return "*"
        one = len(self.choices) == 1 and not self.shared
        text = (
            str(self.choices[0]) if one else f"{{{','.join(map(str, self.choices))}}}{_written(self.shared)}"
        )
        return text + "?" * self.optional


@dataclass(frozen=True)
class OpenRecipe:
    """A space of recipes as written; ``str()`` returns a line that parses to an equal one."""

    parts: tuple[SpacePart, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.parts))

    @classmethod
    def of(cls, recipe: Recipe) -> OpenRecipe:
        """Return the space that holds one recipe."""
        stages = [
            OpenStage(each.technique, tuple((name, OneOf((value,))) for name, value in each.options))
            for each in recipe
        ]
        return cls(tuple(SpacePart((stage,)) for stage in stages))


def parse_space(text: str) -> OpenRecipe:
    """Parse a space of recipes.

    Raises:
        RecipeError: It is wrong; the message points at the column.
    """
    parser = _SpaceParser(text, "space")
    parts = [parser.part()]
    while not parser.at_end():
        parser.expect("+", "'+' and another technique, or the end")
        parts.append(parser.part())
        if len(parts) > MAX_STAGES:
            raise parser.error(f"A space may have at most {MAX_STAGES} parts")
    return OpenRecipe(tuple(parts))


# --------------------------------------------------------------------------------------------------- details


class _SpaceParser(Parser):
    token = re.compile(r'[()\[\],={}?]|"(?:[^"\\]|\\.)*"|[^\s()\[\],="{}?]+', re.DOTALL)
    name = re.compile(r"[^\s()\[\],=\"+{}?*]+")
    bare = re.compile(r'[^\s()\[\],="{}?]+')

    def part(self) -> SpacePart:
        if self.text.startswith("*", self.at):
            self._move(self.at + 1)
            return SpacePart((), optional=True)
        shared: tuple[tuple[str, Domain], ...] = ()
        if self._next() == "{":
            self._take()
            choices = [self._open_stage()]
            while self._next() == ",":
                self._take()
                choices.append(self._open_stage())
            self.expect("}", "',' and another technique, or '}'")
            shared = self._domains()
        else:
            choices = [self._open_stage()]
        optional = self._next() == "?"
        if optional:
            self._take()
        if len(choices) == 1 and shared:
            raise self.error("options behind braces belong to several techniques; write them inside")
        return SpacePart(tuple(choices), optional, shared)

    def _open_stage(self) -> OpenStage:
        start, name = self.at, self.name.match(self.text, self.at)
        if not name:
            raise self.error("the name of a technique is expected here")
        try:
            Stage(name[0])
        except RecipeError:
            raise self.error(f"'{name[0][:40]}' is not a valid technique id", start) from None
        self._move(name.end())
        return OpenStage(name[0], self._domains())

    def _domains(self) -> tuple[tuple[str, Domain], ...]:
        found: dict[str, Domain] = {}
        if self._next() != "(":
            return ()
        self._take()
        while self._next() != ")":
            start, name = self.at, self._next()
            try:
                Stage("zz", ((name, ""),))
            except RecipeError:
                raise self.error("a valid option name is expected here") from None
            if name in found:
                raise self.error(f"option '{name}' is given twice")
            self._take()
            self.expect("=", f"'=' and the values of '{name}'")
            found[name] = self._domain(name)
            if len(found) > MAX_OPTIONS:
                raise self.error(f"a technique may have at most {MAX_OPTIONS} options", start)
            if self._next() != ",":
                break
            self._take()
        self.expect(")", "',' and another option, or ')'")
        return tuple(found.items())

    def _domain(self, name: str) -> Domain:
        start, token = self.at, self._next()
        if token == "*":
            self._take()
            return Declared()
        if token == "{":
            return self._choice(name, start)
        if found := _RANGE.fullmatch(token):
            self._take()
            return self._range(found, start)
        if ".." in token and not token.startswith('"'):
            raise self.error("a range is written low..high or low..high:step, and a text with .. in quotes")
        return OneOf((self._value(name),))

    def _choice(self, name: str, start: int) -> Domain:
        self._take()
        values = [self._value(name)]
        while self._next() == ",":
            self._take()
            values.append(self._value(name))
        self.expect("}", "',' and another value, or '}'")
        if len(set(values)) < len(values):
            raise self.error(f"a value of '{name}' is given twice", start)
        return OneOf(tuple(values))

    def _range(self, found: re.Match[str], start: int) -> Domain:
        try:
            low, high, step = (None if each is None else Decimal(each) for each in found.groups())
        except InvalidOperation:  # pragma: no cover - the pattern admits only numbers
            raise self.error("this is not a range", start) from None
        assert low is not None
        assert high is not None
        if low >= high:
            raise self.error("a range goes from a smaller to a larger number", start)
        if step is not None and not 0 < step <= high - low:
            raise self.error("a step is positive and no larger than the range", start)
        return Between(low, high, step)


def _is_plain(text: str) -> bool:
    return not _SPECIAL.search(text)


def _written(options: tuple[tuple[str, Domain], ...]) -> str:
    return f"({','.join(f'{name}={domain}' for name, domain in options)})" if options else ""
