"""The technique `collapse`."""

from zoo_superres.collapse.technique import Collapse, CollapseConfig

__all__ = ["Collapse", "CollapseConfig"]
