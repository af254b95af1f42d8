"""A child lowers the limits that it was started under, and never raises them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from zoo.processes.child_limits import tighter_than

PROGRAM = (
    "import json, resource, sys\n"
    "from zoo.processes.child_limits import Ceiling\n"
    "for kind, most in json.loads(sys.argv[1]):\n"
    "    resource.setrlimit(kind, (most, most))\n"
    "ceiling = Ceiling()\n"
    "for seconds, memory in json.loads(sys.argv[2]):\n"
    "    ceiling.limit_seconds(seconds)\n"
    "    ceiling.limit_memory(memory)\n"
    "print(json.dumps([resource.getrlimit(resource.RLIMIT_CPU), resource.getrlimit(resource.RLIMIT_AS)]))\n"
)


def limits_after(before: list[tuple[int, int]], asked: list[tuple[int, int]]) -> list[list[int]]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(before), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[list[int]] = json.loads(done.stdout)
    return found


def test_without_limits_above_it_sets_its_own_and_may_set_them_higher_later() -> None:
    (seconds, hardest), (memory, _) = limits_after([], [(5, 1 << 30), (60, 4 << 30)])
    assert 60 <= seconds < 120
    assert hardest == resource.RLIM_INFINITY
    assert 4 << 30 < memory < 6 << 30


def test_a_lower_limit_above_it_stays() -> None:
    before = [(resource.RLIMIT_CPU, 50), (resource.RLIMIT_AS, 1 << 30)]
    assert limits_after(before, [(10, 1 << 20), (500, 64 << 30)]) == [[50, 50], [1 << 30, 1 << 30]]


def test_the_limit_of_the_machine_is_named_where_it_is_the_tighter_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tighter_than(1e6, 1 << 62) == ""
    monkeypatch.setattr(
        resource,
        "getrlimit",
        {resource.RLIMIT_CPU: (20, 20), resource.RLIMIT_AS: (2 << 30, 2 << 30)}.__getitem__,
    )
    assert tighter_than(10, 1 << 30) == ""
    assert tighter_than(30, 1 << 30) == "20 s of processor time (ulimit -t)"
    assert tighter_than(10, 3 << 30) == "2048 MB of addresses (ulimit -v)"
