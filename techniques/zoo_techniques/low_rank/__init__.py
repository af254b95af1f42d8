"""Low-rank factorization of convolutions and linear layers, initialised from their trained weights."""

from zoo_techniques.low_rank.technique import LowRank, LowRankConfig

__all__ = ["LowRank", "LowRankConfig"]
