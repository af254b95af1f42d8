"""Carrying out candidates: in this process, or in several of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol

from zoo.processes.child_limits import end_with
from zoo.processes.launch import isolate_workers
from zoo.search.candidate_run import CandidateRun, carry_out_candidate
from zoo.search.outcome import Outcome

#: Called with the place of a run and what came of it.
Done = Callable[[int, Outcome], None]
#: What comes of a run.
CarryOut = Callable[[CandidateRun], Outcome]
#: Returns whether no further run may begin.
Stop = Callable[[], bool]


class Workers(Protocol):
    """What carries candidates out."""

    #: How many are carried out at once.
    count: int

    def carry_out(self, runs: Sequence[CandidateRun], done: Done, stop: Stop) -> None:
        """Carry runs out, in order as far as there are free workers; after a stop none begins."""


class ThisProcess:
    """Carries out one candidate after the other, in this process."""

    count = 1

    def carry_out(self, runs: Sequence[CandidateRun], done: Done, stop: Stop) -> None:
        """Carry runs out, in order."""
        for place, run in enumerate(runs):
            if stop():
                return
            done(place, carry_out_candidate(run))


class Processes:
    """Carries out several candidates at once, each in a process of its own; one that dies costs its candidate only."""

    def __init__(self, count: int, carry_out: CarryOut = carry_out_candidate) -> None:
        self.count = count
        self._carry_out = carry_out
        self._threads = max(1, len(os.sched_getaffinity(0)) // count)
        self._slots = [self._slot() for _ in range(count)]

    def carry_out(self, runs: Sequence[CandidateRun], done: Done, stop: Stop) -> None:
        """Carry runs out on the slots that are free."""
        waiting = list(enumerate(runs))
        busy: dict[Future[Outcome], tuple[int, int]] = {}
        while busy or (waiting and not stop()):
            used = {slot for slot, _ in busy.values()}
            for slot in (each for each in range(self.count) if each not in used):
                if waiting and not stop():
                    place, run = waiting.pop(0)
                    busy[self._slots[slot].submit(self._carry_out, run)] = slot, place
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                slot, place = busy.pop(future)
                done(place, self._outcome(future, slot, runs[place]))

    def close(self) -> None:
        """End the processes; they must have nothing to do."""
        for slot in self._slots:
            slot.shutdown(cancel_futures=True)

    def kill(self) -> None:
        """End the processes, whatever they do."""
        for slot in self._slots:
            for process in list((slot._processes or {}).values()):
                process.terminate()
            slot.shutdown(wait=False, cancel_futures=True)

    def _slot(self) -> ProcessPoolExecutor:
        isolate_workers()
        return ProcessPoolExecutor(1, get_context("spawn"), begin_worker, (self._threads, os.getpid()))

    def _outcome(self, future: Future[Outcome], slot: int, run: CandidateRun) -> Outcome:
        try:
            return future.result()
        except BrokenProcessPool:
            self._slots[slot].shutdown(wait=False)
            self._slots[slot] = self._slot()
            return Outcome(
                str(run.request.recipe), run.steps, run.trainings,
                error="the process that carried it out died; perhaps the memory did not suffice",
            )  # fmt: skip


def begin_worker(threads: int, parent: int) -> None:
    """Let this process compute with that many threads, and end with the one that started it, even if that is killed."""
    end_with(parent)
    limit_threads(threads)


def limit_threads(threads: int) -> None:
    """Let this process compute with that many threads."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


@contextlib.contextmanager
def local_workers(count: int) -> Iterator[Workers]:
    """Yield workers on this machine, and end them."""
    if count == 1:
        yield ThisProcess()
        return
    processes = Processes(count)
    try:
        yield processes
    except BaseException:
        processes.kill()
        raise
    processes.close()
