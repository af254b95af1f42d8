"""Readers of tables derived from dataclasses: annotations say the types, :mod:`zoo.contracts.limits` the bounds.

::

    @dataclass(frozen=True)
    class Network:
        channels: Annotated[int, Limits(1, 1024)]
        mosaic: Literal["bayer", "xtrans"] | None = None
        files: Annotated[Mapping[str, FileEntry], Limits(most=1000)] = field(default_factory=dict)

    network = read(Network, table)

Types: str, int, float, bool, Literal of texts, other dataclasses, `T | None`, ``float | str``, lists as
``tuple[T, ...]``, lists of a fixed number of whole numbers as ``tuple[int, int]``, and ``Mapping[str, T]``.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union

from zoo.contracts.limits import Key, Limits
from zoo.schema.table import LARGEST_INTEGER, LONGEST_TEXT, StrictTable, is_number, shown

T = TypeVar("T")

#: Checks a value that stands at a key of a table, and returns it typed.
_Reader = Callable[[StrictTable, str, Any], Any]
_ABSENT: Any = object()
_NO_LIMITS = Limits()
_WORDS = {2: "two", 3: "three", 4: "four"}


class _Field(NamedTuple):
    name: str
    key: str
    required: bool
    read: _Reader


def read(cls: type[T], table: StrictTable, **given: Any) -> T:
    """Read a dataclass from all keys of a table.

    A key may be absent if its field has a default; one that belongs to no field is refused.

    Args:
        cls: The dataclass.
        table: Its fields by name, or by what :class:`zoo.contracts.limits.Key` says.
        given: Values of the fields that the file does not hold, or that the caller has read from it.

    Raises:
        ZooError: The table's own error type, for a value that is missing, unknown or not as it should be.
    """
    values = dict(given)
    described: Any = cls
    for field in _fields(described, frozenset(given)):
        value = table.get(field.key) if field.required else table.get(field.key, _ABSENT)
        if value is not _ABSENT:
            values[field.name] = field.read(table, field.key, value)
    table.close()
    return cls(**values)


def keys_of(cls: Any, *given: str) -> tuple[str, ...]:
    """Return the keys of the tables from which :func:`read` reads a dataclass, without the fields `given` to it."""
    return tuple(field.key for field in _fields(cls, frozenset(given)))


# --------------------------------------------------------------------------------------------------- details


@functools.cache
def _fields(cls: Any, given: frozenset[str] = frozenset()) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(
        _field(field, hints[field.name]) for field in dataclasses.fields(cls) if field.name not in given
    )


def _field(field: dataclasses.Field[Any], annotation: Any) -> _Field:
    marks = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    key = next((mark for mark in marks if isinstance(mark, Key)), Key())
    has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return _Field(field.name, key.name or field.name, key.required or not has_default, _reader(annotation))


def _reader(annotation: Any, limits: Limits = _NO_LIMITS) -> _Reader:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _reader(arguments[0], next((mark for mark in arguments if isinstance(mark, Limits)), limits))
    if origin in (Union, types.UnionType):
        return _union(arguments, limits)
    if origin is Literal:
        return _choice(arguments)
    if origin is tuple:
        return _list(arguments[0], limits) if arguments[-1] is ... else _whole_numbers(len(arguments), limits)
    if origin is Mapping:
        return _mapping(arguments[0], arguments[1], limits)
    if annotation in _SCALARS:
        return _SCALARS[annotation](limits)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return lambda table, key, value: read(annotation, table.nested(value, key))
    raise TypeError(f"No reader can be derived for the type {annotation}.")


def _text(limits: Limits) -> _Reader:
    if limits.choices:
        return _choice(limits.choices)
    longest = LONGEST_TEXT if limits.most is None else limits.most
    return lambda table, key, value: table.check_text(value, key, pattern=limits.pattern, longest=longest)


def _choice(choices: tuple[str, ...]) -> _Reader:
    return lambda table, key, value: table.check_choice(value, key, choices)


def _integer(limits: Limits) -> _Reader:
    least = 0 if limits.least is None else limits.least
    most = LARGEST_INTEGER if limits.most is None else limits.most
    return lambda table, key, value: table.check_integer(value, key, least=least, most=most)


def _number(limits: Limits) -> _Reader:
    least = -LARGEST_INTEGER if limits.least is None else limits.least
    most = LARGEST_INTEGER if limits.most is None else limits.most
    return lambda table, key, value: table.check_number(value, key, least=least, most=most)


def _boolean(limits: Limits) -> _Reader:
    return lambda table, key, value: table.check_boolean(value, key)


_SCALARS: Mapping[Any, Callable[[Limits], _Reader]] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _boolean,
}
_PLURALS = {str: "texts", int: "whole numbers", float: "numbers"}


def _union(members: tuple[Any, ...], limits: Limits) -> _Reader:
    others = tuple(member for member in members if member is not type(None))
    if len(others) == 1:
        inner = _reader(others[0], limits)
    elif set(others) == {float, str}:
        inner = _number_or_text(limits)
    else:
        raise TypeError(f"No reader can be derived for a union of {members}.")
    if others == members:
        return inner
    return lambda table, key, value: None if value is None else inner(table, key, value)


def _number_or_text(limits: Limits) -> _Reader:
    text = _text(limits)
    return lambda table, key, value: value if is_number(value) else text(table, key, value)


def _list(item: Any, limits: Limits) -> _Reader:
    if limits.most is None:
        raise TypeError("A list needs a limit of its length.")
    least, most = limits.least or 0, limits.most
    bare, *marks = typing.get_args(item) if typing.get_origin(item) is Annotated else (item,)
    choices = next((mark.choices for mark in marks if isinstance(mark, Limits)), ())
    plural, read_item = _PLURALS.get(bare, "tables"), _reader(item)

    def read_list(table: StrictTable, key: str, value: Any) -> tuple[Any, ...]:
        items = table.check_list(value, key, plural, least=least, most=most)
        if choices and not all(each in choices for each in items):
            table.refuse(f"may contain only {', '.join(choices)}", key)
        return tuple(read_item(table, f"{key}[{place}]", each) for place, each in enumerate(items))

    return read_list


def _whole_numbers(count: int, limits: Limits) -> _Reader:
    least, most = limits.least or 0, LARGEST_INTEGER if limits.most is None else limits.most

    def read_whole_numbers(table: StrictTable, key: str, value: Any) -> tuple[int, ...]:
        fits = isinstance(value, list) and len(value) == count
        if not fits or not all(type(each) is int and least <= each <= most for each in value):
            table.refuse(
                f"must be a list of {_WORDS[count]} whole numbers between {least} and {most}, "
                f"not {shown(value)}",
                key,
            )
        return tuple(value)

    return read_whole_numbers


def _mapping(key_type: Any, item: Any, limits: Limits) -> _Reader:
    if limits.most is None:
        raise TypeError("A mapping needs a limit of its size.")
    most, read_item = limits.most, _reader(item)
    marks = typing.get_args(key_type)
    pattern = next((mark.pattern for mark in marks if isinstance(mark, Limits)), ".*")

    def read_mapping(table: StrictTable, key: str, value: Any) -> dict[str, Any]:
        inner = table.nested(value, key)
        return {
            name: read_item(inner, name, inner.get(name)) for name in inner.names(most=most, pattern=pattern)
        }

    return read_mapping
