"""A child that begins as a copy of its parent keeps nothing of it but what is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from zoo.processes.fork import can_fork

#: Forks in a process that is as `zoo` is at its start; the child sends what it sees.
PROGRAM = """
import os, signal, socket, sys
sys.path.append(os.path.dirname(sys.argv[1]))
import numpy
secret = open(sys.argv[1])
os.environ["LATER"] = "hf_set_later"
signal.signal(signal.SIGTERM, lambda *_: None)
from zoo.processes.child import ChildProcess
from zoo.processes.fork import ForkedProcess, can_fork
assert can_fork()
child = ChildProcess("inside:{function}", environment={{"PATH": "/bin", "KEPT": "yes"}}, copy=True)
assert isinstance(child._process, ForkedProcess)
print(child.channel.makefile().read())
print("status", child.end(grace=60), child.last_words())
"""
INSIDE = """
import json, os, signal, socket, sys
def look(descriptor, parent):
    seen = {
        "files": [os.readlink(file) for file in map("/proc/self/fd/{}".format, range(3, 100)) if os.path.lexists(file)],
        "environment": dict(os.environ),
        "stated": open("/proc/self/environ", "rb").read().decode(),
        "path": sys.path,
        "handler": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "numpy": "numpy" in sys.modules,
        "output": os.readlink("/proc/self/fd/1"),
    }
    socket.socket(fileno=int(descriptor)).sendall(json.dumps(seen).encode())
def fail(descriptor, parent):
    raise ValueError("it went wrong")
def leave(descriptor, parent):
    sys.exit(7)
def crash(descriptor, parent):
    os.abort()
"""


def run(tmp_path: Path, function: str) -> str:
    (tmp_path / "inside.py").write_text(INSIDE)
    (tmp_path / "secret.txt").write_text("secret")
    program = PROGRAM.format(function=function)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {**os.environ, "HF_TOKEN": "hf_secret", "KEPT": "no", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "secret.txt")],
        capture_output=True, text=True, cwd=folder, env=environment, check=True,
    )  # fmt: skip
    return done.stdout


def test_it_has_neither_files_nor_variables_nor_handlers_nor_the_current_directory(tmp_path: Path) -> None:
    said, status = run(tmp_path, "look").strip().splitlines()
    seen = json.loads(said)
    assert status.strip() == "status 0"
    assert [each.partition(":")[0] for each in seen["files"]] == ["socket"]
    assert seen["environment"] == {"PATH": "/bin", "KEPT": "yes"}
    assert "hf_" not in seen["stated"]
    assert not {"", str(tmp_path / "elsewhere")} & set(seen["path"])
    assert (seen["handler"], seen["numpy"]) == (True, True)
    assert seen["output"] == "/dev/null"


def test_how_it_ended_is_known(tmp_path: Path) -> None:
    for function, end in (
        ("fail", "status 1 ValueError: it went wrong"),
        ("leave", "status 7"),
        ("crash", "status -6"),
    ):
        folder = tmp_path / function
        folder.mkdir()
        assert run(folder, function).strip() == end


def test_a_process_with_threads_is_not_copied() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not can_fork()
    finally:
        done.set()
        thread.join()


IN_COPY = """
import itertools, os, signal, subprocess, sys, time
from zoo.processes.fork import run_in_copy
from zoo.processes.process_tree import held_by_tree
from zoo.processes.time_limits import at_most
kept = lambda process: False

def hangs():
    with at_most(0.05):
        time.sleep(60)

def starts_a_large_child():
    subprocess.run([sys.executable, "-c", "b = b'x' * (300 << 20); import time; time.sleep(60)"])

def is_told_to_stop():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)

def computes_and_does_not_return():
    subprocess.Popen(["sh", "-c", f"sleep 1; kill -INT {os.getppid()}"])
    sum(itertools.repeat(1))  # in C, where no exception is raised

def catches_everything():
    for _ in range(3):
        try:
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(20)
        except KeyboardInterrupt:
            time.sleep(0.6)

def saves_what_it_has():
    try:
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(20)
    except KeyboardInterrupt:
        time.sleep(3)
        return 5

interrupted = (computes_and_does_not_return, catches_everything, saves_what_it_has)
statuses = [run_in_copy(each, kept) for each in (lambda: print("said") or 7, os.abort, lambda: sys.exit(3))]
print(*statuses, run_in_copy(hangs, kept), run_in_copy(is_told_to_stop, kept))
with at_most(0.05):  # which limits copies only
    time.sleep(0.1)
print(*(run_in_copy(each, kept) for each in interrupted))
try:
    run_in_copy(starts_a_large_child, lambda process: held_by_tree(process) > 200 << 20)
except MemoryError:
    print("too large")
"""


def test_what_ends_a_copy_with_its_terminal_is_told_and_nothing_else_ends() -> None:
    command = [sys.executable, "-c", IN_COPY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n") == ["said", "7 -6 3 -14 9", "-2 -2 5", "too large", ""]
