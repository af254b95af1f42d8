"""Types of command-line values that click does not know."""

from __future__ import annotations

from typing import Any

import click

# Until 8.5 click's ParamType took no type arguments; zoo runs with 8.1.


class Amplification(click.ParamType):  # type: ignore[type-arg]
    """``auto``, which becomes None, or a factor from 0.01 to 10,000."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return the factor; None stands for ``auto``."""
        if value is None or value == "auto":
            return None
        try:
            ratio = float(value)
        except ValueError:
            ratio = 0.0
        if not 0.01 <= ratio <= 10_000:
            self.fail(f"'{value}' is neither 'auto' nor a number from 0.01 to 10000.", param, ctx)
        return ratio


class Milliseconds(click.ParamType):  # type: ignore[type-arg]
    """A time, as in ``30ms`` or ``1.5s``."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the time in milliseconds."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        number, factor = (text[:-2], 1.0) if text.endswith("ms") else (text.removesuffix("s"), 1000.0)
        try:
            found = float(number) * factor if text[-1:] == "s" else 0.0
        except ValueError:
            found = 0.0
        if not 0 < found < float("inf"):
            self.fail(f"'{value}' is not a time such as 30ms or 1.5s.", param, ctx)
        return found


class FrameSize(click.ParamType):  # type: ignore[type-arg]
    """``WxH`` in pixels, each side from 16 to 20,000."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (width, height)."""
        if isinstance(value, tuple):
            return value
        width, _, height = str(value).partition("x")
        if not (width.isascii() and width.isdecimal() and height.isascii() and height.isdecimal()):
            self.fail(f"'{value}' is not a size such as 1024x1024.", param, ctx)
        size = int(width), int(height)
        if not all(16 <= side <= 20_000 for side in size):
            self.fail(f"the sides of '{value}' are not between 16 and 20000 pixels.", param, ctx)
        return size


class MemorySize(click.ParamType):  # type: ignore[type-arg]
    """Bytes, as in ``512MB`` or ``1.5GiB``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        from zoo.machine.memory import parse_size

        return value if isinstance(value, int) else parse_size(value)
