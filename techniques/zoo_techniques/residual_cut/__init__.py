"""Residual links are cut where the layers beside them can do without."""

from zoo_techniques.residual_cut.technique import ResidualCut, ResidualCutConfig

__all__ = ["ResidualCut", "ResidualCutConfig"]
