"""Taking one artifact from the front that a search found."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from zoo.artifacts import open_artifact
from zoo.errors import InputError, IntegrityError, UsageError
from zoo.search.front import knee
from zoo.search.search_request import SearchRequest
from zoo.search.search_result import FRONT_NAME, read_front
from zoo.storage.atomic import atomic_folder, check_folder_target

Pick = Literal["knee", "best", "smallest", "fastest"]
PICKS: tuple[Pick, ...] = get_args(Pick)
_BY = {"best": "score", "smallest": "size", "fastest": "latency"}


@dataclass(frozen=True)
class Picked:
    """An artifact that was taken from a front, and the command that makes it again."""

    artifact: Path
    recipe: str
    command: str


def pick(folder: Path, kind: str, out: Path | None = None) -> Picked:
    """Copy an artifact of a front.

    Args:
        folder: Of the search.
        kind: "knee" for the point nearest to the best of everything, each goal scaled to its span on the front;
            "best" for the highest score; "smallest"; "fastest".
        out: The artifact folder to write; by default one next to the search's.

    Raises:
        UsageError: The front is empty, or the search did not have that goal.
        InputError: The folder holds no search, or none that has found anything.
    """
    request = SearchRequest.load(folder)
    target = out or folder.with_name(f"{folder.name}-{kind}")
    check_folder_target(target)
    rows = _front(folder)
    row = rows[_place(rows, kind, folder)]
    source = folder / str(row["artifact"])
    artifact = open_artifact(source)
    artifact.verify()
    if artifact.manifest.fingerprint != row["fingerprint"]:
        raise IntegrityError(
            f"{source} is not the artifact that the search made.", hint=f"Make it again:  {row['command']}"
        )
    with atomic_folder(target) as folder_in_the_making:
        for path in source.iterdir():
            if path.is_file():
                shutil.copyfile(path, folder_in_the_making / path.name)
    command = request.command(row["recipe"], row["steps"], int(row["trainings"]), str(target))
    return Picked(target, str(row["recipe"]), command)


def _front(folder: Path) -> Sequence[Mapping[str, Any]]:
    if not (folder / FRONT_NAME).is_file():
        raise InputError(
            f"The search in {folder} has found nothing yet.",
            hint=f"Continue it:  zoo search --resume {folder}",
        )
    rows = read_front(folder)
    if not rows:
        raise UsageError(
            f"No candidate of the search in {folder} keeps the budget.",
            hint=f"Raise a budget, or search longer:  zoo search --resume {folder} --minutes 120",
        )
    return rows


def _place(rows: Sequence[Mapping[str, Any]], kind: str, folder: Path) -> int:
    if kind == "knee":
        return knee([tuple(row["values"].values()) for row in rows])
    goal = _BY[kind]
    if goal not in rows[0]["values"]:
        raise UsageError(
            f"The search in {folder} did not have the goal {goal}.",
            hint=f"Its goals: {', '.join(rows[0]['values'])}",
        )
    if goal == "latency" and all("latency_together" in row for row in rows):
        return min(range(len(rows)), key=lambda place: rows[place]["latency_together"])
    return min(range(len(rows)), key=lambda place: rows[place]["values"][goal])
