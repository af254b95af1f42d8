"""A folder in which 64-bit Arm programs run on x86-64, and what must hold of the base install there.

`python tests/emulate_aarch64.py` is the command; README.md beside this file says how it works.
"""


class Unavailable(Exception):
    """Packages of other projects could not be had: nothing is said about ours."""


class Failed(Exception):
    """Something that must hold on aarch64 does not."""
