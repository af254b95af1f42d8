"""Cutting residual links where the neighbouring layers can do without them."""

from zoo_techniques.residual_cut.technique import ResidualCut, ResidualCutConfig

__all__ = ["ResidualCut", "ResidualCutConfig"]
