"""The built-in boards, a TOML file each; ``jetson_nano`` here gives the profile of jetson-nano.toml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.devices.profile_file import read_profile

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile


def __getattr__(name: str) -> DeviceProfile:
    """The profile of a board, read when it is asked for: an entry point names it as an attribute."""
    path = Path(__file__).with_name(f"{name.replace('_', '-')}.toml")
    if name.startswith("_") or not path.is_file():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return read_profile(path)
