"""What there is to choose from: the values of an option, as text, in order."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from zoo.errors import UsageError
from zoo.options import Option, Text, format_value
from zoo.recipes.grammar import format_text
from zoo.recipes.space_grammar import Between, Declared, Domain, OneOf

#: Steps of a range of fractions for which none is stated.
_STEPS = 20
#: The most values of one option.
MOST_VALUES = 10_000


@dataclass(frozen=True)
class Axis:
    """One thing that a search chooses.

    Attributes:
        name: In reports and in the study: ``channel-prune.ratio``.
        values: What it chooses from; None stands for leaving the technique out.
        low, step: Of numbers at equal distances; a step of 0 if the values have no order.
    """

    name: str
    values: tuple[Text | None, ...]
    low: Decimal = Decimal(0)
    step: Decimal = Decimal(0)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ordered(self) -> bool:
        """Return whether the values are numbers at equal distances."""
        return bool(self.step)

    @property
    def ends(self) -> tuple[int, ...]:
        """Return the places of the least and the largest number, or of all values that are not numbers."""
        try:
            numbers = [float(str(value)) for value in self.values]
        except ValueError:
            return tuple(range(len(self)))
        places = sorted(range(len(self)), key=numbers.__getitem__)
        return tuple(dict.fromkeys((places[0], places[-1])))

    @property
    def middle(self) -> int:
        """Return the place in the middle of numbers, or of the first value if they are not numbers."""
        return (len(self) - 1) // 2 if self.ordered else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the values as reports show them."""
        return tuple("none" if value is None else format_text(value) for value in self.values)


def axis_of(name: str, option: Option, domain: Domain) -> Axis:
    """Return the axis of an option.

    Args:
        name: Of the axis.
        option: What the technique declares.
        domain: As it was written.

    Raises:
        UsageError: The option declares no range, has no such values, or has too many.
    """
    if isinstance(domain, OneOf):
        return Axis(name, domain.values)
    whole = _member(option.type, (int, float)) is int
    if isinstance(domain, Declared):
        return _declared(name, option, whole)
    if _member(option.type, (int, float)) is None:
        raise UsageError(
            f"{name} is {option.type_name}; a range needs a number.", hint=f"List values:  {_example(option)}"
        )
    return _levels(name, domain.low, domain.high, domain.step, whole)


def declares_values(option: Option) -> bool:
    """Return whether ``*`` stands for something."""
    limited = option.minimum is not None and option.maximum is not None
    numeric = _member(option.type, (int, float)) is not None
    return bool(_choices(option)) or option.type is bool or (limited and numeric)


def is_open(option: Option) -> bool:
    """Return whether ``*`` stands for something, for each layer or for the network."""
    return declares_values(option) or bool(per_layer_values(option))


def per_layer_values(option: Option) -> tuple[str, ...]:
    """Return what each layer may get, of an option that lists values for layers; empty for others."""
    members: Sequence[typing.Any] = (
        typing.get_args(option.type) if typing.get_origin(option.type) is tuple else ()
    )
    return tuple(getattr(members[0], "per_layer", ())) if members else ()


# --------------------------------------------------------------------------------------------------- details


def _declared(name: str, option: Option, whole: bool) -> Axis:
    choices = _choices(option)
    if choices:
        return Axis(name, choices)
    if option.type is bool:
        return Axis(name, ("true", "false"))
    if not declares_values(option):
        raise UsageError(
            f"{name} does not declare what it may be{f' (only {option.range})' if option.range else ''}, so * has no "
            "meaning.",
            hint=f"List values or state a range:  {_example(option)}",
        )
    return _levels(name, Decimal(repr(option.minimum)), Decimal(repr(option.maximum)), None, whole)


def _levels(name: str, low: Decimal, high: Decimal, step: Decimal | None, whole: bool) -> Axis:
    if whole and any(each is not None and each != int(each) for each in (low, high, step)):
        raise UsageError(f"{name} is a whole number; its range {Between(low, high, step)} holds fractions.")
    distance = step or (Decimal(1) if whole else (high - low) / _STEPS)
    count = int((high - low) / distance) + 1
    if count > MOST_VALUES:
        raise UsageError(
            f"{name} has {count:,} values; the limit is {MOST_VALUES:,}.",
            hint="State a step:  low..high:step",
        )
    numbers = [low + index * distance for index in range(count)]
    texts = tuple(str(int(each)) if whole else repr(float(each)) for each in numbers)
    return Axis(name, texts, low, distance)


def _choices(option: Option) -> tuple[Text, ...]:
    own = option.choices or next(
        (
            typing.get_args(each)
            for each in typing.get_args(option.type)
            if typing.get_origin(each) is typing.Literal
        ),
        (),
    )
    return tuple(format_value(each) for each in own)


def _member(annotation: typing.Any, kinds: tuple[type, ...]) -> type | None:
    """Return the first of the kinds that a type is, or that a union has; None if there is none."""
    members = (annotation, *typing.get_args(annotation)) if typing.get_origin(annotation) is not tuple else ()
    return next((kind for kind in kinds if kind in members), None)


def _example(option: Option) -> str:
    if _member(option.type, (int, float)) is None:
        return f"{option.name}={{a,b}}"
    low = 1 if option.minimum is None else option.minimum
    return f"{option.name}={low:g}..{low + 8:g}"
