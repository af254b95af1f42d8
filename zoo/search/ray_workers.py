"""Carrying out candidates on a Ray cluster: each is a task, and a lost machine costs its candidate only time."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.extras import require
from zoo.search.candidate_run import CandidateRun, carry_out_candidate
from zoo.search.outcome import Outcome
from zoo.search.workers import CarryOut, Done, Stop
from zoo.storage.atomic import atomic_folder

#: How often Ray begins a candidate again whose machine was lost.
_RETRIES = 3
#: Seconds in which a cluster must answer.
_PATIENCE = 10

Files = Mapping[str, bytes]


class RayWorkers:
    """Carries candidates out on the processors of a cluster; where it has GPUs, one candidate on each.

    Artifacts come back through Ray's object store, unless the folder of the search is shared.

    Args:
        address: "auto" for the cluster of this machine, ``ray://head:10001`` for another.
        carry_out: What each task does.

    Raises:
        InputError: There is no cluster at the address.
        MissingDependencyError: Ray is not installed.
    """

    def __init__(self, address: str, carry_out: CarryOut = carry_out_candidate) -> None:
        self._ray: Any = require("ray", "Searching on a cluster", extra="ray")
        try:
            _reach(address)
            self._ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"There is no Ray cluster at {address}: {str(error).strip().splitlines()[0][:200]}",
                hint="Start one on the first machine with:  ray start --head",
            ) from error
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self.count = max(1, gpus or int(resources.get("CPU", 1)))
        options = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        self._task = self._ray.remote(max_retries=_RETRIES, **options)(_task(carry_out))

    def carry_out(self, runs: Sequence[CandidateRun], done: Done, stop: Stop) -> None:
        """Carry runs out on whatever the cluster has free."""
        waiting = list(enumerate(runs))
        busy: dict[Any, int] = {}
        while busy or (waiting and not stop()):
            while waiting and len(busy) < self.count and not stop():
                place, run = waiting.pop(0)
                busy[self._task.remote(run)] = place
            finished, _ = self._ray.wait(list(busy), num_returns=1)
            for reference in finished:
                place = busy.pop(reference)
                done(place, self._collected(reference, runs[place]))

    def close(self) -> None:
        """Leave the cluster; tasks that still run are ended."""
        self._ray.shutdown()

    def _collected(self, reference: Any, run: CandidateRun) -> Outcome:
        try:
            outcome, files = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return Outcome(
                str(run.request.recipe), run.steps, run.trainings, error=f"lost on the cluster: {reason}"
            )
        if files and not run.request.out.exists():
            with atomic_folder(run.request.out) as folder:
                for name, content in files.items():
                    (folder / name).write_bytes(content)
        return outcome  # type: ignore[no-any-return]


@contextlib.contextmanager
def ray_workers(address: str) -> Iterator[RayWorkers]:
    """Yield the workers of a cluster, and leave it at the end."""
    workers = RayWorkers(address)
    try:
        yield workers
    finally:
        workers.close()


def _reach(address: str) -> None:
    """Connect to an address once; Ray itself would try for minutes.

    Raises:
        OSError: Nothing answers.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _task(carry_out: CarryOut) -> Callable[[CandidateRun], tuple[Outcome, Files]]:
    def task(run: CandidateRun) -> tuple[Outcome, Files]:
        shared = run.request.out.parent.parent.is_dir()
        if shared:
            return carry_out(run), {}
        with tempfile.TemporaryDirectory() as folder:
            request = dataclasses.replace(run.request, out=Path(folder, "artifact"), keep_stages=None)
            outcome = carry_out(dataclasses.replace(run, request=request))
            files = request.out.iterdir() if request.out.is_dir() else ()
            return outcome, {path.name: path.read_bytes() for path in files}

    return task
