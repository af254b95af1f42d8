"""Inverted residual blocks in place of dense convolutions, initialised from their trained weights."""

from zoo_techniques.inverted_residual.technique import InvertedResidual, InvertedResidualConfig

__all__ = ["InvertedResidual", "InvertedResidualConfig"]
