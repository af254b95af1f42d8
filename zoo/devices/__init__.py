"""Device profiles: what a board can do. Each is an entry point of the group `zoo.devices`."""

from zoo.devices.host import board_of, host, usable_memory
from zoo.devices.profile_file import read_profile

__all__ = ["board_of", "host", "read_profile", "usable_memory"]
