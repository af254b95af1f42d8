"""Fewer stages: the deepest levels of a U-Net, or the last blocks of a classifier"s stage, are taken out."""

from zoo_techniques.stage_prune.technique import StagePrune, StagePruneConfig

__all__ = ["StagePrune", "StagePruneConfig"]
