"""Which channels of a network can only be removed together, and removing them: what a pruner needs."""

from zoo.surgery.dependency.channel_graph import ChannelDependencies
from zoo.surgery.dependency.removal import remove_groups
from zoo.surgery.dependency.union_find import ChannelMap, ParameterSlice, UnionFind

__all__ = ["ChannelDependencies", "ChannelMap", "ParameterSlice", "UnionFind", "remove_groups"]
