"""Reading JSON and TOML from outside: every key known, every value of its type and within bounds.

Nothing but the error type that was asked for escapes, whatever the bytes are.
"""

from __future__ import annotations

from zoo.schema.documents import parse_json, parse_toml
from zoo.schema.reader import keys_of, read
from zoo.schema.table import StrictTable

__all__ = ["StrictTable", "keys_of", "parse_json", "parse_toml", "read"]
