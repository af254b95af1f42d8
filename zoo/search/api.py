"""Searching from Python, as `zoo search` does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import UsageError
from zoo.search.exact_counts import ExactCounts
from zoo.search.first_settings import first_settings, recipe_of
from zoo.search.front_report import write_report
from zoo.search.joint_latency import Together, time_front
from zoo.search.latency_source import latency_model
from zoo.search.layer_names import layer_names
from zoo.search.search_result import SearchResult, write_front
from zoo.search.searcher import Searcher
from zoo.search.space import Space
from zoo.search.study_log import StudyLog
from zoo.search.workers import local_workers
from zoo.storage.atomic import writing
from zoo.storage.file_lock import release, try_acquire

if TYPE_CHECKING:
    from zoo.contracts import Reporter
    from zoo.search.goals import Goal
    from zoo.search.search_request import SearchRequest
    from zoo.search.workers import Workers


@dataclass(frozen=True)
class Preview:
    """What a search would do.

    Attributes:
        size: Recipes of the space.
        axes: What there is to choose: name and number of values.
        first: Recipes that are tried first, as far as they are legal.
        structures: Legal combinations of techniques; None if there are too many to count.
    """

    size: int
    axes: tuple[tuple[str, int], ...]
    first: tuple[str, ...]
    structures: int | None


def search(request: SearchRequest, reporter: Reporter) -> SearchResult:
    """Search for the best recipes, or continue a search that was interrupted.

    Raises:
        ZooError: The space is empty, a budget cannot be kept, the storage cannot be reached, or the folder holds
            another search or is in use.
    """
    space = open_space(request)
    request.loss_limit  # noqa: B018 - refuses what is malformed
    model = latency_model(request)
    with _folder_held(request), _workers(request) as workers:
        request.save()
        log = StudyLog(request.url, study_name(request), len(request.goals), request.sampler, request.seed)
        counts = ExactCounts(request.base(space.example.written))
        searcher = Searcher(request, space, log, workers, reporter, counts, model)
        together: Together = {}
        try:
            result = searcher.run()
            together = time_front(request, result, reporter)
            write_front(request, result, together)
            return result
        finally:  # what an interrupted search found is worth looking at, too
            write_report(request, searcher.result(), _importances(request, log), together)


def open_space(request: SearchRequest) -> Space:
    """Return the space of a request.

    Raises:
        UsageError: It is malformed or empty.
    """
    return Space(request.space, lambda: layer_names(request.architecture))


def preview(request: SearchRequest, count: int = 8) -> Preview:
    """Return what a search would do, without doing any of it.

    Args:
        request: The search.
        count: How many recipes are shown.
    """
    space = open_space(request)
    first: list[str] = []
    for setting in first_settings(space, request.trials, request.seed).settings[:count]:
        with contextlib.suppress(UsageError):
            first.append(str(recipe_of(space, setting).written))
    structures = None if space.structures is None else len(space.structures)
    return Preview(space.size, tuple((axis.name, len(axis)) for axis in space.axes), tuple(first), structures)


def study_name(request: SearchRequest) -> str:
    """Return the name of the study: storages that several searches share tell them apart by their folders."""
    return f"zoo-search {request.folder.absolute()}" if request.storage else "zoo-search"


# --------------------------------------------------------------------------------------------------- details


@contextlib.contextmanager
def _folder_held(request: SearchRequest) -> Iterator[None]:
    with writing(request.folder):
        request.folder.mkdir(parents=True, exist_ok=True)
    lock = request.folder / "search.lock"
    descriptor = try_acquire(lock)
    if descriptor is None:
        raise UsageError(
            f"Another process searches in {request.folder}.",
            hint="Wait for it, or name another folder with --out.",
        )
    try:
        yield
    finally:
        release(lock, descriptor)


def _workers(request: SearchRequest) -> contextlib.AbstractContextManager[Workers]:
    if request.ray:
        from zoo.search.ray_workers import ray_workers

        return ray_workers(request.ray)
    return local_workers(request.workers)


def _importances(request: SearchRequest, log: StudyLog) -> dict[Goal, dict[str, float]]:
    return {goal: log.importances(place) for place, goal in enumerate(request.goals)}
