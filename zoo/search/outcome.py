"""What is known about a candidate, in a form that a study can keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.errors import IntegrityError
from zoo.search.goals import Goal


@dataclass(frozen=True)
class Outcome:
    """A recipe that was carried out, or could not be.

    Attributes:
        recipe: With the options as they were drawn.
        steps: Of each training; 0 for closed forms and calibration only.
        trainings: How many trainings the recipe has.
        error: Why it failed, "" if it did not.
        counted: Whether nothing was carried out, because counts alone show that a budget is exceeded: `macs` is known,
            `size` and `memory` are at least what they say, and nothing else is.
        measure: Name of what the score is.
        unit: What losses of it are counted in.
        score, before: As tables show it, of the exported file and of the original's.
        lost: What was lost of the measure, in the unit; negative if something was gained.
        size, macs, parameters: Of the exported file.
        memory: Bytes of activations at their peak and of weights, for the example input.
        latency: Median in milliseconds, or what a model predicts.
        latency_before: That of the original, measured in turn with it; 0 for a prediction.
        size_before, macs_before: Of the original.
        reused: Stages that were not trained because another recipe with the same beginning had been.
        seconds: How long it took.
        processor_seconds: What processors spent on it, whatever else they had to do meanwhile.
        fingerprint: Of the artifact.
    """

    recipe: str
    steps: int
    trainings: int = 0
    error: str = ""
    counted: bool = False
    measure: str = ""
    unit: str = ""
    score: str = ""
    before: str = ""
    lost: float = 0.0
    size: int = 0
    macs: int = 0
    parameters: int = 0
    memory: int = 0
    latency: float = 0.0
    latency_before: float = 0.0
    size_before: int = 0
    macs_before: int = 0
    reused: tuple[str, ...] = ()
    seconds: float = 0.0
    processor_seconds: float = 0.0
    fingerprint: str = ""

    def value(self, goal: Goal, reference: float) -> float:
        """Return what is minimised.

        Args:
            goal: Which value.
            reference: Median latency of the original in milliseconds, which the ratio of latencies is multiplied by.
        """
        if goal == "score":
            return self.lost
        if goal == "latency":
            return self.latency / self.latency_before * reference if self.latency_before else self.latency
        return float({"size": self.size, "memory": self.memory, "macs": self.macs}[goal])

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary, from which :meth:`from_json` makes an equal outcome."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Outcome:
        """Return the outcome that a study kept.

        Raises:
            IntegrityError: It is none.
        """
        try:
            return cls(**{**content, "reused": tuple(content.get("reused", ()))})
        except TypeError as error:
            raise IntegrityError(
                f"The study holds a result that this version does not read: {error}",
                hint="Search into another folder:  zoo search ... --out DIR",
            ) from error
