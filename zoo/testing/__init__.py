"""The conformance kits: what every plugin of a kind must do, as tests that its author runs.

In a test module of the package that brings the plugin::

    from zoo.testing import technique_checks
    from zoo_mine import Mine

    TestMine = technique_checks(Mine)

pytest then runs one test for each promise of the contract. Every built-in plugin passes the same tests.

The kits for tasks, datasets, engines and devices need neither torch nor onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.testing.architectures import ArchitectureChecks, architecture_checks
    from zoo.testing.datasets import DatasetChecks, dataset_checks
    from zoo.testing.devices import DeviceChecks, device_checks
    from zoo.testing.engines import EngineChecks, engine_checks
    from zoo.testing.tasks import TaskChecks, task_checks
    from zoo.testing.techniques import TechniqueChecks, technique_checks
    from zoo.testing.trial import Trial, attempt
    from zoo.testing.workbench import Inert, Patterns, Workbench
else:
    # The kits that need torch must not slow down the others.
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.testing.architectures": ("ArchitectureChecks", "architecture_checks"),
            "zoo.testing.datasets": ("DatasetChecks", "dataset_checks"),
            "zoo.testing.devices": ("DeviceChecks", "device_checks"),
            "zoo.testing.engines": ("EngineChecks", "engine_checks"),
            "zoo.testing.tasks": ("TaskChecks", "task_checks"),
            "zoo.testing.techniques": ("TechniqueChecks", "technique_checks"),
            "zoo.testing.trial": ("Trial", "attempt"),
            "zoo.testing.workbench": ("Inert", "Patterns", "Workbench"),
        },
    )

__all__ = [
    "ArchitectureChecks",
    "DatasetChecks",
    "DeviceChecks",
    "EngineChecks",
    "Inert",
    "Patterns",
    "TaskChecks",
    "TechniqueChecks",
    "Trial",
    "Workbench",
    "architecture_checks",
    "attempt",
    "dataset_checks",
    "device_checks",
    "engine_checks",
    "task_checks",
    "technique_checks",
]
