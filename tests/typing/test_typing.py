"""Type checkers see the types of the front door, which Python imports lazily."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_front_door_has_the_types_that_it_promises(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    checked = Path(__file__).with_name("front_door.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, checked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
