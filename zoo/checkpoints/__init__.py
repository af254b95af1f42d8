"""Checkpoints on this machine: finding them by name, listing, verifying and pruning the cache."""
