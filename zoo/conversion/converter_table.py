"""The table of operators that can be converted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from zoo.conversion.builder import GraphBuilder, Operation, Value

    Convert: TypeAlias = Callable[[GraphBuilder, Operation], "Value | tuple[Value, ...]"]

#: How each operator is converted.
CONVERTERS: dict[str, Convert] = {}


def converts(*kinds: str) -> Callable[[Convert], Convert]:
    """Register a function as the converter of some operators."""

    def register(function: Convert) -> Convert:
        for kind in kinds:
            CONVERTERS[kind] = function
        return function

    return register
