"""Define what an architecture, a technique, a task, a dataset, an engine and a device profile are.

These are the contracts between zoo and every plugin, built-in or not. They import neither torch nor numpy:
discovery and legality work without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.contracts.architecture import TASKS, Architecture, InputSpec, OutputSpec, task_for
from zoo.contracts.contract_version import CONTRACT_VERSION
from zoo.contracts.dataset import CropSize, Dataset, Sample, SampleFiles, Split, crop_size, sides_of
from zoo.contracts.device import GAP_OPERATORS, DeviceProfile, Execution, KernelGap
from zoo.contracts.engine import Engine, Session
from zoo.contracts.input_parts import InputPart
from zoo.contracts.reporter import Reporter, SilentReporter
from zoo.contracts.task import Metric, Scorer, Shown, Task
from zoo.contracts.technique import Context, LeftAlone, LossTerm, Phase, SkippedLayer, Teacher, Technique

if TYPE_CHECKING:
    from zoo.contracts.dataset import FloatArray as FloatArray
    from zoo.contracts.dataset import TargetArray as TargetArray

__all__ = [
    "CONTRACT_VERSION",
    "GAP_OPERATORS",
    "TASKS",
    "Architecture",
    "Context",
    "CropSize",
    "Dataset",
    "DeviceProfile",
    "Engine",
    "Execution",
    "InputPart",
    "InputSpec",
    "KernelGap",
    "LeftAlone",
    "LossTerm",
    "Metric",
    "OutputSpec",
    "Phase",
    "Reporter",
    "Sample",
    "SampleFiles",
    "Scorer",
    "Session",
    "Shown",
    "SilentReporter",
    "SkippedLayer",
    "Split",
    "Task",
    "Teacher",
    "Technique",
    "crop_size",
    "sides_of",
    "task_for",
]
