"""Dense prediction at a fraction of the resolution: space-to-depth at the input, a pixel shuffle at the output."""

from zoo_techniques.space_to_depth.technique import SpaceToDepth, SpaceToDepthConfig

__all__ = ["SpaceToDepth", "SpaceToDepthConfig"]
