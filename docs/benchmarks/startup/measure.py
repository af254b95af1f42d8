"""What starting the command costs, against a bare Python: medians of interleaved runs, wall and processor time.

    python docs/benchmarks/startup/measure.py [--rounds 21]

Run it in an environment where compression-zoo is installed; the `zoo` beside that Python is measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ZOO = str(Path(sys.executable).with_name("zoo"))
COMMANDS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "zoo --help": (ZOO, "--help"),
    "zoo --version": (ZOO, "--version"),
    "zoo list": (ZOO, "list"),
    "zoo info qat": (ZOO, "info", "qat"),
    "zoo techniques --matrix": (ZOO, "techniques", "--matrix"),
}


def processor_time() -> float:
    """Seconds that the processes started so far have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def milliseconds(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall and processor time of one run."""
    started, before = time.perf_counter(), processor_time()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000, (processor_time() - before) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, command in COMMANDS.items():
            taken = milliseconds(command)
            if turn:  # the first turn writes byte code and fills the page cache
                times[name].append(taken)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    bare = medians["python -c pass"]
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors, {rounds} rounds\n"
    )
    print(
        "| command | wall ms | times a bare Python | processor ms | times a bare Python |\n|---|---:|---:|---:|---:|"
    )
    for name, (wall, cpu) in medians.items():
        print(f"| `{name}` | {wall:.0f} | {wall / bare[0]:.1f} | {cpu:.0f} | {cpu / bare[1]:.1f} |")


if __name__ == "__main__":
    main()
