"""Candidates in processes of their own: one that dies takes nothing with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.searching import dies_of_ptq, request, run
from zoo.search.workers import Processes

pytest.importorskip("optuna")
pytestmark = [pytest.mark.usefixtures("third_party"), pytest.mark.xdist_group("search")]


def test_a_process_that_dies_costs_its_candidate_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A new process imports the program that started this one, which may be a script without a guard.
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    processes = Processes(2, dies_of_ptq)
    try:
        result = run(request(tmp_path, space="ptq(bits=*)", goals=("score", "size"), steps=0), processes)
    finally:
        processes.close()
    assert [each.recipe for each in result.failed] == ["ptq(bits=4)"]
    assert "the process that carried it out died" in result.failed[0].outcomes[0].error
    assert {point.outcome.recipe for point in result.points} == {
        f"ptq(bits={bits})" for bits in (2, 3, 5, 6, 7, 8)
    }


PROGRAM = """
import os, time
from zoo.search.workers import Processes
processes = Processes(1, eval)
processes.carry_out(["__import__('os').getpid()"], lambda place, found: print(found, flush=True), lambda: False)
processes.carry_out(["__import__('time').sleep(1000)"], print, lambda: False)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a child with its parent")
def test_processes_end_with_the_search_that_is_killed() -> None:
    search = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert search.stdout is not None
    worker = Path("/proc", search.stdout.readline().strip(), "stat")
    assert ") Z" not in worker.read_text()
    search.kill()
    search.wait()
    end = time.monotonic() + 60
    while worker.exists() and ") Z" not in worker.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    search.stdout.close()
