"""The technique `nested-width`."""

from zoo_anytime.nested_width.technique import NestedWidth, NestedWidthConfig

__all__ = ["NestedWidth", "NestedWidthConfig"]
