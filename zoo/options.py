"""Options of techniques and datasets: the fields of a frozen dataclass `Config`, read from text.

A plain field is an option; :func:`option` adds help, a unit and limits::

    @dataclass(frozen=True)
    class Config:
        bits: int = option(8, help="width of weights and activations", unit="bit", minimum=2, maximum=8)
        which: Literal["all", "second"] = "all"

Types: int, float, bool, str, Path, an Enum, Literal, a subclass of :class:`CustomOption`, `T | None` (written
``none``), unions of these, and tuples of them (written ``[a,b]``).
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union

from zoo.errors import PluginError, UnknownIdError, UsageError
from zoo.suggest import did_you_mean

T = TypeVar("T")

#: The value of an option in a recipe, before it is converted.
Text = str | tuple[str, ...]

_INT = re.compile(r"[+-]?[0-9]{1,4000}")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


@dataclass(frozen=True)
class Option:
    """One option of a plugin.

    Attributes:
        default: :data:`dataclasses.MISSING` if a value is required.
        minimum: The least value allowed.
        maximum: The largest value allowed.
    """

    name: str
    type: Any
    default: Any
    help: str = ""
    unit: str = ""
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def type_name(self) -> str:
        """Return the type as the help shows it: ``int``, ``float or none``, ``list of int``, ``all | second``."""
        return _type_name(self.type)

    @property
    def range(self) -> str:
        """Return the range in words: ``2 to 8``, ``at least 0``, ``one of a, b``; "" if any value is allowed."""
        if self.choices:
            return "one of " + ", ".join(str(format_value(choice)) for choice in self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"at least {self.minimum:g}"
        if self.maximum is not None:
            return f"at most {self.maximum:g}"
        return ""


class CustomOption:
    """A type of option with its own notation, such as ``0.4`` for bits before and after the point.

    ``str()`` of an instance returns what :meth:`read` reads.

    Attributes:
        form: The notation in short, for tables.
        expected: What a value must be, as the end of a sentence.
        per_layer: What a search may choose from for each layer, if values are written ``layer:value``.
    """

    form: ClassVar[str]
    expected: ClassVar[str]
    per_layer: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, text: str) -> CustomOption:
        """Return the value that `text` stands for.

        Raises:
            ValueError: It does not stand for any.
        """
        raise NotImplementedError


#: The name of :class:`CustomOption` in plugins written for the first releases.
Written = CustomOption


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str = "",  # noqa: A002
    unit: str = "",
    choices: tuple[Any, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Return a dataclass field for an option with help, a unit and limits (both inclusive)."""
    metadata = {"help": help, "unit": unit, "choices": choices, "minimum": minimum, "maximum": maximum}
    return dataclasses.field(default=default, metadata=metadata)


def options_of(config: type) -> tuple[Option, ...]:
    """Return the options of a `Config` class, in the order of its fields.

    Raises:
        PluginError: `config` is not a dataclass, or its annotations cannot be evaluated.
    """
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise PluginError(f"{config!r} is not a dataclass, so it cannot hold options.")
    try:
        hints = typing.get_type_hints(config)
    except Exception as error:  # an annotation is arbitrary code of a plugin
        raise PluginError(
            f"The options of {config.__module__}.{config.__qualname__} have a type "
            f"that cannot be evaluated: {error}"
        ) from error
    return tuple(_option_of(field, hints[field.name]) for field in dataclasses.fields(config) if field.init)


def parse_options(owner: str, config: type[T], given: Mapping[str, Text]) -> T:
    """Return an instance of `config` from option values as text; absent options get their default.

    Args:
        owner: The id named in errors.
        config: A dataclass whose fields are options.
        given: Values by name; hyphens in names stand for underscores.

    Raises:
        UsageError: An option is unknown or missing, or a value has the wrong type, is out of range or is refused by
            the class.
    """
    known = {each.name: each for each in options_of(config)}
    hint = f"See its options with:  zoo info {owner}"
    values: dict[str, Any] = {}
    for written, text in given.items():
        name = written.replace("-", "_")
        if name not in known:
            raise UnknownIdError(f"{owner} has no option '{written}'{did_you_mean(name, known)}", hint=hint)
        if name in values:
            raise UsageError(f"{owner}: option '{name}' is given more than once.", hint=hint)
        try:
            values[name] = _checked(known[name], _convert(known[name].type, text))
        except _WrongValueError as error:
            raise UsageError(
                f"{owner}: option '{name}' must be {error.expected}, not {_shown(text)}"
                f"{error.suggestion or '.'}",
                hint=hint,
            ) from None
    for each in known.values():
        if each.required and each.name not in values:
            raise UsageError(
                f"{owner} needs the option '{each.name}' ({each.help or each.type_name}).", hint=hint
            )
    try:
        return config(**values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{owner}: {error}", hint=hint) from error


def format_options(config: Any) -> dict[str, Text]:
    """Return all options of a config instance as text, such that parse_options returns an equal instance."""
    return {each.name: format_value(getattr(config, each.name)) for each in options_of(type(config))}


def format_value(value: Any) -> Text:
    """Return one value as text: ``none``, ``true``, shortest exact number; a tuple as a tuple of texts."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (tuple, list)):
        return tuple(str(format_value(item)) for item in value)
    return repr(value) if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------------------------------- details


class _WrongValueError(Exception):
    def __init__(self, expected: str, suggestion: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.suggestion = suggestion


def _option_of(field: dataclasses.Field[Any], annotation: Any) -> Option:
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    about = field.metadata
    return Option(
        name=field.name,
        type=annotation,
        default=default,
        help=about.get("help", ""),
        unit=about.get("unit", ""),
        choices=tuple(about.get("choices", ())) or _choices_of(annotation),
        minimum=about.get("minimum"),
        maximum=about.get("maximum"),
    )


def _choices_of(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is Literal:
        return typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(annotation)
    return ()


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


def _is_custom(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, CustomOption)


def _type_name(annotation: Any) -> str:
    if annotation is type(None):
        return "none"
    choices = _choices_of(annotation)
    if choices:
        return " | ".join(str(format_value(choice)) for choice in choices)
    if _is_custom(annotation):
        return str(annotation.form)
    if _is_union(annotation):
        return " or ".join(_type_name(member) for member in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        members = typing.get_args(annotation)
        if len(members) == 2 and members[1] is Ellipsis:
            return f"list of {_type_name(members[0])}"
        return "[" + ",".join(_type_name(member) for member in members) + "]"
    return {str: "text", Path: "path"}.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _expected(annotation: Any) -> str:
    """Return what a value of this type must be, as the end of a sentence."""
    if annotation is type(None):
        return "none"
    choices = _choices_of(annotation)
    if choices:
        return "one of " + ", ".join(str(format_value(choice)) for choice in choices)
    if _is_custom(annotation):
        return str(annotation.expected)
    if _is_union(annotation):
        return " or ".join(_expected(member) for member in typing.get_args(annotation))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return names.get(annotation, "a " + _type_name(annotation))


def _convert(annotation: Any, text: Text) -> Any:
    if _is_union(annotation):
        return _convert_union(annotation, text)
    if typing.get_origin(annotation) is tuple:
        return _convert_tuple(annotation, (text,) if isinstance(text, str) else text)
    if isinstance(text, tuple):
        raise _WrongValueError(f"{_expected(annotation)} (one value, not a list)")
    choices = _choices_of(annotation)
    if choices:
        for choice in choices:
            if format_value(choice) == text:
                return choice
        suggestion = did_you_mean(text, map(str, map(format_value, choices)))
        raise _WrongValueError(_expected(annotation), suggestion)
    if _is_custom(annotation):
        try:
            return annotation.read(text)
        except ValueError:
            raise _WrongValueError(_expected(annotation)) from None
    if annotation is type(None) and text.lower() == "none":
        return None
    if annotation is bool and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    if annotation is int and _INT.fullmatch(text):
        return int(text)
    if annotation is float and _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if annotation is str or annotation is Any:
        return text
    if annotation is Path and text and "\0" not in text:
        return _path(text)
    if annotation not in (int, float, bool, Path, type(None)):
        raise PluginError(f"Options of the type {_type_name(annotation)} cannot be read from text.")
    raise _WrongValueError(_expected(annotation))


def _convert_union(annotation: Any, text: Text) -> Any:
    # none goes first; str and Path take any text, so they are tried when nothing narrower fits
    ranks = {type(None): 0, str: 2, Path: 2}
    for member in sorted(typing.get_args(annotation), key=lambda member: ranks.get(member, 1)):
        try:
            return _convert(member, text)
        except _WrongValueError:
            continue
    raise _WrongValueError(_expected(annotation))


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~someone, and there is no such user: then it is a file name that starts with ~
        return Path(text)


def _convert_tuple(annotation: Any, texts: tuple[str, ...]) -> tuple[Any, ...]:
    members = typing.get_args(annotation)
    if len(members) == 2 and members[1] is Ellipsis:
        members = (members[0],) * len(texts)
    if len(members) != len(texts):
        raise _WrongValueError(f"a list of {len(members)} values such as {_type_name(annotation)}")
    try:
        return tuple(_convert(member, text) for member, text in zip(members, texts, strict=True))
    except _WrongValueError as error:
        raise _WrongValueError(f"a list whose values are each {error.expected}") from None


def _checked(about: Option, value: Any) -> Any:
    for item in value if isinstance(value, tuple) else (value,):
        if item is None:
            continue
        out_of_choice = about.choices and item not in about.choices
        number = isinstance(item, (int, float)) and not isinstance(item, bool)
        too_low = number and about.minimum is not None and item < about.minimum
        too_high = number and about.maximum is not None and item > about.maximum
        if out_of_choice or too_low or too_high:
            unit = f" {about.unit}" if about.unit and not out_of_choice else ""
            raise _WrongValueError(about.range + unit)
    return value


def _shown(text: Text) -> str:
    written = text if isinstance(text, str) else "[" + ",".join(text) + "]"
    return f"'{written}'" if len(written) <= 60 else f"'{written[:57]}...'"
