"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Severity(str, Enum):
    """How good it is."""

    OK = "ok"
    NOTE = "note"  #: works, but could be better
    PROBLEM = "problem"  #: something will not work


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at.
        found: What it is like.
        remedy: The command or step that helps, or "".
    """

    subject: str
    state: Severity
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {**asdict(self), "state": self.state.value}
