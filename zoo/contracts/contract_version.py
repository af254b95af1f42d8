"""The version of the contracts between zoo and its plugins."""

#: The version of these contracts. A plugin states the one it was written for in its `contract` attribute.
CONTRACT_VERSION = 1
