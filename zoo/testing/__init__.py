"""The conformance kits: what every plugin of a kind must do, as tests that its author runs.

In a test module of the package that brings the plugin::

    from zoo.testing import technique_checks
    from zoo_mine import Mine

    TestMine = technique_checks(Mine)

pytest then runs one test for each promise of the contract. Every built-in plugin passes the same tests.

The kits for datasets, engines and devices need neither torch nor onnx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.testing.architectures import ArchitectureChecks, architecture_checks
    from zoo.testing.datasets import DatasetChecks, dataset_checks
    from zoo.testing.devices import DeviceChecks, device_checks
    from zoo.testing.engines import EngineChecks, engine_checks
    from zoo.testing.techniques import TechniqueChecks, technique_checks
    from zoo.testing.trial import Trial, attempt
    from zoo.testing.workbench import Inert, Patterns, Workbench

__all__ = [
    "ArchitectureChecks",
    "DatasetChecks",
    "DeviceChecks",
    "EngineChecks",
    "Inert",
    "Patterns",
    "TechniqueChecks",
    "Trial",
    "Workbench",
    "architecture_checks",
    "attempt",
    "dataset_checks",
    "device_checks",
    "engine_checks",
    "technique_checks",
]

_MODULES = {
    "architectures": ("ArchitectureChecks", "architecture_checks"),
    "datasets": ("DatasetChecks", "dataset_checks"),
    "devices": ("DeviceChecks", "device_checks"),
    "engines": ("EngineChecks", "engine_checks"),
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
