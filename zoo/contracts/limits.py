"""Limits of a field, stated with its type: ``channels: Annotated[int, Limits(1, 1024)]``.

:func:`zoo.schema.read` derives from them how a file is read.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

#: An id of a plugin.
PLUGIN_ID = r"[a-z][a-z0-9-]{1,31}"


class Limits(NamedTuple):
    """Bounds of a value, both included.

    Args:
        least: Lower bound of a number, or of the entries of a list or mapping.
        most: Upper bound of a number, of the characters of a text, or of the entries of a list or mapping.
        pattern: Regular expression that a text must match from end to end.
        choices: The words that a text is one of; the other limits do not apply then.
    """

    least: float | None = None
    most: float | None = None
    pattern: str = ".*"
    choices: tuple[str, ...] = ()


class Key(NamedTuple):
    """The key under which a file holds a field.

    Args:
        name: If it differs from the field's name.
        required: Whether a file must have it although the field has a default.
    """

    name: str = ""
    required: bool = False


#: A sha256 in lower-case hexadecimal digits.
Sha256 = Annotated[str, Limits(most=64, pattern=r"[0-9a-f]{64}")]
