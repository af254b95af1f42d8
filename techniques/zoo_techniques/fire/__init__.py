"""Fire modules in place of dense convolutions, initialised from their trained weights."""

from zoo_techniques.fire.technique import Fire, FireConfig

__all__ = ["Fire", "FireConfig"]
