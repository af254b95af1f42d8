"""What a search found, and the file that lists what nothing beats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.schema import parse_json
from zoo.search.goals import Goal
from zoo.search.outcome import Outcome
from zoo.search.search_request import SearchRequest
from zoo.search.study_log import SearchCandidate
from zoo.storage.atomic import read_bytes, write_bytes_atomic

#: In a search's folder: that of the artifacts, and the file that lists what nothing beats.
TRIALS, FRONT_NAME = "trials", "front.json"
_LARGEST = 1 << 26


@dataclass(frozen=True)
class Point:
    """A candidate that was measured.

    Attributes:
        values: What is minimised, by goal.
        violations: By how much each budget is exceeded, as a share of it; 0 or less where it is kept.
    """

    candidate: SearchCandidate
    outcome: Outcome
    values: Mapping[Goal, float]
    violations: Mapping[Goal, float]

    @property
    def feasible(self) -> bool:
        """Return whether every budget is kept."""
        return all(value <= 0 for value in self.violations.values())

    @property
    def folder_name(self) -> str:
        """Return the name of the folder that its artifact is in."""
        return folder_name(self.candidate, self.outcome.steps)


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        points: All that were measured, those that exceed a budget included.
        front: Those that keep the budgets and that no other beats, ordered by the first goal.
        failed: Candidates that could not be carried out.
        trained: Trainings in full.
        saved: Candidates that would have been trained in full without halving and exact counts.
        beyond: Those among them that exceed a budget by their exact counts.
        never_run: Candidates that exceed a budget by counts made before anything was carried out.
        seconds: Time that candidates took, all together.
    """

    points: Sequence[Point]
    front: Sequence[Point]
    failed: Sequence[SearchCandidate]
    trained: int
    saved: int
    beyond: int
    never_run: int
    seconds: float

    @property
    def nearest(self) -> Point:
        """Return the point that exceeds its budgets by the least; there must be one."""
        return min(self.points, key=lambda point: max([0.0, *point.violations.values()]))


def folder_name(candidate: SearchCandidate, steps: int) -> str:
    """Return the name of the folder of a candidate's artifact."""
    return f"{candidate.number:05}-{steps}"


def write_front(
    request: SearchRequest, result: SearchResult, together: Mapping[str, float] | None = None
) -> Path:
    """Write what nothing beats as JSON, with the command that makes each point again; return the file.

    Args:
        request: The search.
        result: What it found.
        together: Latencies that were measured together, by the fingerprint of the artifact.
    """
    timed = together or {}
    rows = [
        {
            "recipe": point.outcome.recipe,
            "steps": point.outcome.steps,
            "trainings": point.outcome.trainings,
            "values": dict(point.values),
            "score": point.outcome.score,
            "fingerprint": point.outcome.fingerprint,
            "artifact": f"{TRIALS}/{point.folder_name}",
            **(
                {"latency_together": timed[point.outcome.fingerprint]}
                if point.outcome.fingerprint in timed
                else {}
            ),
            "command": request.command(point.outcome.recipe, point.outcome.steps, point.outcome.trainings),
        }
        for point in result.front
    ]
    path = request.folder / FRONT_NAME
    write_bytes_atomic(path, json.dumps({"goals": request.goals, "front": rows}, indent=2).encode())
    return path


def read_front(folder: Path) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a front that was written; none if there is no such file.

    Raises:
        InputError: The file does not hold a front.
    """
    path = folder / FRONT_NAME
    if not path.is_file():
        return ()
    content = parse_json(read_bytes(path, _LARGEST), str(path), error=InputError)
    rows: Sequence[Mapping[str, Any]] = content.get("front", []) if isinstance(content, dict) else []
    return rows
