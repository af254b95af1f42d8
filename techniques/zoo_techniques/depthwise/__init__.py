"""Depthwise-separable substitution of dense convolutions, initialised from their trained weights."""

from zoo_techniques.depthwise.technique import Depthwise, DepthwiseConfig

__all__ = ["Depthwise", "DepthwiseConfig"]
