"""Rectifiers in place of activations that engines do not fuse."""

from zoo_techniques.relu.technique import Relu, ReluConfig

__all__ = ["Relu", "ReluConfig"]
