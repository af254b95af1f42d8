"""SIGKILL at random moments of commands that compute for long: nothing half is taken for whole, and nothing runs on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.class_folders import write_classes
from zoo.artifacts import open_artifact

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks into /proc"),
]
#: Kills of each command.
KILLS = int(os.environ.get("ZOO_TEST_KILLS", "3"))
NET = """
from torch import nn

def net():
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    first = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
    return nn.Sequential(*first, *ends)
"""
COMMANDS = {
    "train": (["train"], ["--steps", "20"]),
    "apply": (["apply", "qat"], ["--steps", "10", "--max-loss", "none"]),
    "search": (
        ["search"],
        ["--trials", "3", "--steps", "2", "--space", "{ptq,qat}(bits={4,8})", "--workers", "2"],
    ),
}


def start(command: str, folder: Path) -> subprocess.Popen[bytes]:
    before, after = COMMANDS[command]
    given = [
        "--input",
        "rgb:3x16x16",
        "--output",
        "logits:3",
        "--data",
        f"folder(root={folder}/data)",
        "--batch",
        "2",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "zoo_cli", *before, "net.py:net", *given, *after, "--out", "out"],
        cwd=folder,
        env={**os.environ, "ZOO_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def of_session(session: int) -> list[int]:
    """The processes that still run of a session."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, _, number = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == session and state != "Z":
            found.append(int(process))
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_killed_leaves_no_process_and_ends_the_same_when_it_is_given_again(
    tmp_path: Path, command: str
) -> None:
    def made(name: str) -> Path:
        folder = tmp_path / name
        write_classes(folder / "data", count=8)
        (folder / "net.py").write_text(NET)
        return folder

    undisturbed = made("undisturbed")
    begun = time.monotonic()
    assert start(command, undisturbed).wait() == 0
    took = time.monotonic() - begun
    chance = random.Random(command)
    for number in range(KILLS):
        folder = made(str(number))
        process = start(command, folder)
        time.sleep(chance.uniform(0, took))
        process.send_signal(signal.SIGKILL)
        process.wait()
        end = time.monotonic() + 60
        while left := of_session(process.pid):
            assert time.monotonic() < end, f"{left} still run"
            time.sleep(0.1)
        for artifact in folder.rglob("zoo.json"):
            if not artifact.parent.name.startswith("."):
                open_artifact(artifact.parent).verify()
        if command != "search" and (folder / "out").exists():
            continue  # it was complete
        assert start(command, folder).wait() == 0
        if command == "search":
            assert (folder / "out" / "front.json").exists()
        else:
            same = [(each / "out" / "model.onnx").read_bytes() for each in (folder, undisturbed)]
            assert same[0] == same[1]
