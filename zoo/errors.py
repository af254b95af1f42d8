"""Every error that a user of zoo can see.

Only :class:`ZooError` and its subclasses may reach the user; anything else is a bug. Each message says
what is wrong and where; ``hint`` holds the next command to type or the remedy.
"""

from __future__ import annotations


class ZooError(Exception):
    """Base of all errors meant for the user.

    Attributes:
        exit_code: Exit code of the command line.
        message: What is wrong, and where.
        hint: The next command to type or the remedy, shown on a separate line; None if there is none.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class UsageError(ZooError):
    """The request itself is wrong: a bad option value, a missing argument, an output that exists."""

    exit_code = 2


class UnknownIdError(UsageError):
    """No plugin, checkpoint, option or file has the given name."""


class RecipeError(UsageError):
    """A recipe does not parse. ``column`` is 0-based and points into ``text``."""

    def __init__(self, message: str, *, text: str = "", column: int = 0, hint: str | None = None) -> None:
        self.text = text
        self.column = column
        super().__init__(f"{message}\n{_pointed(text, column)}" if text else message, hint=hint)


def _pointed(text: str, column: int) -> str:
    """Return the text around `column` and a caret below it, on two lines without control characters."""
    start = max(0, column - 60)
    shown = "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[start : column + 40]
    )
    before, after = "..." if start else "", "..." if column + 40 < len(text) else ""
    return f"  {before}{shown}{after}\n  {' ' * (len(before) + column - start)}^"


class LegalityError(UsageError):
    """The recipe parses, but its techniques may not be combined in this order."""


class PluginError(ZooError):
    """A plugin is broken, ambiguous, or written for another contract version."""

    exit_code = 3


class ContractVersionError(PluginError):
    """A plugin was written for another version of the contracts in :mod:`zoo.contracts`."""


class IntegrityError(ZooError):
    """An artifact is damaged, incomplete, altered, or in a format this version does not read."""

    exit_code = 4


class InputError(ZooError):
    """An input file (RAW, photograph, data set) cannot be used."""

    exit_code = 5


class MissingDependencyError(ZooError):
    """A package of an extra is not installed."""

    exit_code = 6


class NoEffectError(ZooError):
    """A stage changed nothing, only wrote zeros, or lost more quality than the budget allows."""

    exit_code = 7


#: The name that plugins written earlier catch it by.
HonestEffectError = NoEffectError


class OutputError(ZooError):
    """The output cannot be written: no space, read-only, no permission."""

    exit_code = 8


class NetworkError(ZooError):
    """A server cannot be reached, refuses, is too slow or sends an unexpected answer; or HF_HUB_OFFLINE is set."""

    exit_code = 9


class DisagreementError(ZooError):
    """A rewritten network or an exported file does not compute what the network it came from does."""

    exit_code = 11


class ExportError(ZooError):
    """torch cannot export a network to ONNX. ``reason`` says why."""

    exit_code = 10

    def __init__(self, message: str, *, hint: str | None = None, reason: str = "") -> None:
        self.reason = reason
        super().__init__(message, hint=hint)
