"""The former name of :mod:`zoo.surgery.hooks`, kept for plugins written for contract 1."""

from zoo.surgery.hooks import evaluating, watch

__all__ = ["evaluating", "watch"]
