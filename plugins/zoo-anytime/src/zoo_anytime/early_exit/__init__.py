"""The technique `early-exit`."""

from zoo_anytime.early_exit.technique import EarlyExit, EarlyExitConfig

__all__ = ["EarlyExit", "EarlyExitConfig"]
