"""What it costs to compute a network in a process of its own: `zoo run --isolate` against `--no-isolate`, interleaved.

    python docs/benchmarks/isolation/measure.py [--rounds 15] [--checkpoint swift-unet-int8] [FILE ...]

Times are medians of processor time, of all processes together, and of wall time. Memory is what the processes hold
together at once, sampled every few milliseconds: pages that they share count once, files that they map do not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "memory"))
from scene import SIZES, write_scene

ZOO = str(Path(sys.executable).with_name("zoo"))
WAYS = ("--no-isolate", "--isolate")
INTERVAL = 0.004


@dataclass
class Run:
    """One run: seconds of the processors and of the clock, and bytes."""

    processor: float
    wall: float
    memory: int = 0


def seconds_of_children() -> float:
    """Seconds that the processes that have ended so far computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def family(root: int) -> list[int]:
    """A process and those that it started."""
    found = [root]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir() if Path(f"/proc/{each}/task").exists() else ():
            try:
                found += map(int, (task / "children").read_text().split())
            except OSError:
                continue
    return found


def held(process: int) -> int:
    """Bytes of a process that lie in no file, its share of those that it shares."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0
    parts = dict(line.split()[:2] for line in lines)
    return 1024 * (int(parts["Pss_Anon:"]) + int(parts["Pss_Shmem:"]))


def run(checkpoint: str, file: Path, out: Path, way: str, *, watch: bool) -> Run:
    """Run it once; with `watch` the memory is sampled, which takes time of its own."""
    command = [ZOO, "run", checkpoint, str(file), "-o", str(out), "--overwrite", "--memory", "1GB", way]
    before, started = seconds_of_children(), time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    while watch and child.poll() is None:
        most = max(most, sum(map(held, family(child.pid))))
        time.sleep(INTERVAL)
    if child.wait():
        sys.exit(f"failed: {' '.join(command)}")
    return Run(seconds_of_children() - before, time.perf_counter() - started, most)


def measure(checkpoint: str, file: Path, rounds: int, out: Path) -> str:
    """A row of the table."""
    timed: dict[str, list[Run]] = {way: [] for way in WAYS}
    watched: dict[str, list[Run]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way in WAYS if number % 2 else reversed(WAYS):
            one = run(checkpoint, file, out, way, watch=False)
            if number:  # the first fills caches
                timed[way].append(one)
    for _ in range(3):
        for way in WAYS:
            watched[way].append(run(checkpoint, file, out, way, watch=True))
    processor = [statistics.median(each.processor for each in timed[way]) for way in WAYS]
    wall = [statistics.median(each.wall for each in timed[way]) for way in WAYS]
    memory = [statistics.median(each.memory for each in watched[way]) / 2**20 for way in WAYS]
    return (
        f"| {file.stem} | {1000 * processor[0]:.0f} | {1000 * processor[1]:.0f} | {processor[1] / processor[0]:.3f} "
        f"| {wall[1] / wall[0]:.3f} | {memory[0]:.0f} | {memory[1]:.0f} | {memory[1] - memory[0]:+.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--checkpoint", default="swift-unet-int8")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_CACHE"] = str(Path(folder, "cache"))
        # An installed zoo is compiled; one that is compiled anew each time takes long, and hides what isolation costs.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder, "compiled"))
        files = list(given.files)
        if not files:
            files = [write_scene(Path(folder), size) for size in SIZES]
        print(f"Python {platform.python_version()}, {os.cpu_count()} processors, {given.rounds} rounds\n")
        print("| frame | ms in one process | ms apart | ratio | ratio of wall | MiB | MiB apart | more |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for file in files:
            print(measure(given.checkpoint, file, given.rounds, Path(folder, "out")), flush=True)


if __name__ == "__main__":
    main()
