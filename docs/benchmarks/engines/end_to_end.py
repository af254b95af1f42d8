"""`zoo run` on a RAW file of a megapixel, from the start to the written picture, against the original way.

    python docs/benchmarks/engines/end_to_end.py [--file FILE] [--rounds 7] [--write]

Each round starts every program once: `zoo run` with shipped checkpoints on each engine that is installed, and
`original.py`, which is torch in eager mode in float32, packing by numpy, and a PNG by PIL. All get two threads. The
first round fills caches and does not count. Memory is measured in a run of its own, as the sum over the program and the
processes it starts. --write puts the tables into the README beside this script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo import plugins
from zoo.benchmarking.steps import frame_file
from zoo.errors import UnknownIdError
from zoo.registry import shipped_folder
from zoo.training.weights import load_start

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

ORIGINAL = "the original way, `unet`"
CHECKPOINTS = ("swift-unet-int8", "lighter-unet-int8", "lighter-unet", "unet")
THREADS = 2
RATIO = 100
#: How many times as fast as the original way each checkpoint must be.
LEAST_TIMES = {"swift-unet-int8": 12, "lighter-unet-int8": 8}
MOST_SHARE, MOST_SECONDS, MOST_MB = 0.35, 1.0, 250


@dataclass(frozen=True)
class Run:
    """seconds: of the whole process; steps: seconds of each step inside it."""

    seconds: float
    steps: dict[str, float]

    @property
    def file(self) -> float:
        """Seconds of one file, without starting and loading."""
        return sum(value for step, value in self.steps.items() if step != "load")


def programs(file: Path, folder: Path) -> dict[str, list[str]]:
    """The command lines by the name of the row."""
    weights = folder / "unet.pt"
    architecture = plugins.architecture("unet")
    net = architecture.build()
    load_start(net, architecture, "unet")
    torch.save(net.state_dict(), weights)
    script = str(Path(__file__).with_name("original.py"))
    picture = str(folder / "original.png")
    found = {ORIGINAL: [sys.executable, script, str(weights), str(file), picture, str(RATIO)]}
    for engine in ("onnxruntime", "openvino"):
        if _can_run(engine):
            for checkpoint in CHECKPOINTS:
                artifact = str(shipped_folder(checkpoint))
                found[f"zoo, `{checkpoint}`, {engine}"] = [
                    sys.executable, "-m", "zoo_cli", "run", artifact, str(file), "-o", str(folder), "--overwrite",
                    "--engine", engine, "--threads", str(THREADS), "--ratio", str(RATIO), "--json",
                ]  # fmt: skip
    return found


def _can_run(engine: str) -> bool:
    try:
        return plugins.engine(engine).available() is None
    except UnknownIdError:
        return False


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return own | {"OMP_NUM_THREADS": str(THREADS)}


def timed(command: list[str]) -> Run:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    seconds = time.perf_counter() - started
    told: dict[str, Any] = json.loads(done.stdout)
    if "files" in told:
        told = {step: value / 1000 for step, value in told["files"][0]["steps_ms"].items()}
    return Run(seconds, told)


def peak_mb(command: list[str]) -> float:
    """The largest sum, in MB, of the memory resident in a program and its children."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment())
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_resident(each) for each in _family(process.pid)))
        time.sleep(0.005)
    return peak / 1024


def _family(process: int) -> list[int]:
    found = [process]
    for each in found:
        try:
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
        except OSError:
            continue  # it has ended
    return found


def _resident(process: int) -> int:
    """Kilobytes, what is shared with others in parts."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def report(runs: dict[str, list[Run]], memory: dict[str, float]) -> str:
    """The tables, in Markdown."""
    lines = [
        "| | times as fast, whole process | quartiles | times as fast, the file alone | not inference, of the file "
        "| whole process except inference, s | peak MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    original = runs[ORIGINAL]
    reached = []
    for name, own in runs.items():
        pairs = [a.seconds / b.seconds for a, b in zip(original, own, strict=True)]
        low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
        times = _median(original, "seconds") / _median(own, "seconds")
        share = statistics.median(1 - run.steps["infer"] / run.file for run in own)
        beside = statistics.median(run.seconds - run.steps["infer"] for run in own)
        lines.append(
            f"| {name} | {times:.1f} | {low:.1f}-{high:.1f} | {_median(original, 'file') / _median(own, 'file'):.1f} "
            f"| {share:.0%} | {beside:.2f} | {memory[name]:.0f} |"
        )
        for least in (each for checkpoint, each in LEAST_TIMES.items() if f"`{checkpoint}`" in name):
            reached += [
                (name, "times as fast as the original way, at least", least, times, times >= least),
                (name, "not inference, of the file, at most", MOST_SHARE, share, share <= MOST_SHARE),
                (
                    name,
                    "whole process except inference, s, at most",
                    MOST_SECONDS,
                    beside,
                    beside <= MOST_SECONDS,
                ),
                (name, "peak MB, at most", MOST_MB, memory[name], memory[name] <= MOST_MB),
            ]
    lines += ["", "| | | bound | measured | |", "|---|---|---:|---:|---|"]
    for name, what, bound, value, fine in reached:
        lines.append(f"| {name} | {what} | {bound} | {value:.3g} | {'reached' if fine else 'missed'} |")
    return "\n".join(lines)


def _median(runs: list[Run], figure: str) -> float:
    return statistics.median(getattr(run, figure) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = arguments.file or frame_file(plugins.architecture("unet").input, 1024, 1024, folder)
        commands = programs(file, folder)
        runs: dict[str, list[Run]] = {name: [] for name in commands}
        for turn in range(arguments.rounds + 1):
            for name, command in commands.items():
                run = timed(command)
                if turn:
                    runs[name].append(run)
        found = report(runs, {name: peak_mb(command) for name, command in commands.items()})
    found = f"{arguments.rounds} interleaved rounds.\n\n{found}"
    print(found)
    if arguments.write:
        put_table(Path(__file__).with_name("README.md"), "end to end", found)


if __name__ == "__main__":
    main()
