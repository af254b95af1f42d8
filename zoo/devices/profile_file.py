"""Reading a device profile from a TOML file."""

from __future__ import annotations

from pathlib import Path

from zoo.contracts import CONTRACT_VERSION, DeviceProfile
from zoo.errors import PluginError
from zoo.schema import StrictTable, parse_toml, read
from zoo.storage.atomic import read_bytes

FORMAT = 1
_LARGEST = 1 << 20
#: what needs a source where it is given
_FIGURES = (
    "memory_mb", "precisions", "processor", "gpu", "bandwidth_gbs", "int8_tops", "power_modes", "power_sensors",
    "software",
)  # fmt: skip


def read_profile(path: Path) -> DeviceProfile:
    """Return the profile that a TOML file describes; docs/devices.md has the format.

    A plugin's entry point names a function that calls this for the file next to it. Every figure needs a
    source.

    Raises:
        PluginError: Something is not exactly as it should be; the message names the file and the place.
    """
    content = parse_toml(read_bytes(path, _LARGEST, error=PluginError), str(path), error=PluginError)
    table = StrictTable(content, str(path), error=PluginError)
    table.check_format("device profile", FORMAT)
    profile = read(DeviceProfile, table, contract=CONTRACT_VERSION, reserve_mb=0)
    bare = unsourced(profile)
    if bare:
        table.refuse(f"does not state a source for {', '.join(bare)}", "sources")
    return profile


def unsourced(profile: DeviceProfile) -> list[str]:
    """Return the names of the figures that a profile states without a source."""
    return [name for name in _FIGURES if getattr(profile, name) and name not in profile.sources]
