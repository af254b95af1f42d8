"""Fixed-point weights and activations, binary and ternary weights: few bits, packed in the file."""

from zoo_techniques.fixed_point.technique import FixedFormat, FixedPoint, FixedPointConfig

__all__ = ["FixedFormat", "FixedPoint", "FixedPointConfig"]
