"""The technique `adaptive-depth`."""

from zoo_anytime.adaptive_depth.technique import AdaptiveDepth, AdaptiveDepthConfig

__all__ = ["AdaptiveDepth", "AdaptiveDepthConfig"]
