"""The conformance kits: what every plugin of a kind must do, as tests that its author runs.

In a test module of the package that brings the plugin::

    from zoo.testing import technique_checks
    from zoo_mine import Mine

    TestMine = technique_checks(Mine)

pytest then runs one test for each promise of the contract. Every built-in plugin passes the same tests.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.testing.techniques import TechniqueChecks, technique_checks
    from zoo.testing.trial import Trial, attempt
    from zoo.testing.workbench import Inert, Patterns, Workbench

__all__ = [
    "Inert",
    "Patterns",
    "TechniqueChecks",
    "Trial",
    "Workbench",
    "attempt",
    "technique_checks",
]

_MODULES = {
    "techniques": ("TechniqueChecks", "technique_checks"),
    "trial": ("Trial", "attempt"),
    "workbench": ("Inert", "Patterns", "Workbench"),
}


def __getattr__(name: str) -> Any:
    """Import a kit when it is first used: those that need torch must not slow down the others."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
