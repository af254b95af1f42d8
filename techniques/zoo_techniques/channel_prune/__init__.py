"""Channels that matter least are removed, with everything that depends on them."""

from zoo_techniques.channel_prune.technique import ChannelPrune, ChannelPruneConfig

__all__ = ["ChannelPrune", "ChannelPruneConfig"]
