"""What installed plugins cost: the time of `zoo` commands with and without 500 of them, and of starting at all.

Usage:  python docs/benchmarks/registry/measure.py [RUNS]

Each command runs in a process of its own, with and without the plugins in turns, so that other work on the
machine meets both alike; CPU time (user + system) of the process is what counts, and wall time is shown too.
"""

from __future__ import annotations

import os
import pty
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PLUGINS = 500
SOURCE = "raise RuntimeError('a listing must not import plugins')\n"
COMMANDS = (("list",), ("list", "--json"), ("plugins",), ("plugins", "--json"), ("techniques",))
METHODS = {
    "zoo.plugins.discovery.discover(), all five groups": "from zoo.plugins.discovery import discover as work",
    "entrypoints.get_group_all, one group": "import entrypoints\n"
    "def work(): return entrypoints.get_group_all('zoo.techniques')",
    "importlib.metadata.entry_points, one group": "import importlib.metadata\n"
    "def work(): return importlib.metadata.entry_points(group='zoo.techniques')",
}


def install_plugins(site: Path) -> None:
    """Put PLUGINS distributions with one engine each into `site`."""
    for number in range(PLUGINS):
        info = site / f"zoo_fake{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: zoo-fake{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[zoo.engines]\nfake-{number} = zoo_fake{number}:Fake\n")
        (site / f"zoo_fake{number}.py").write_text(SOURCE)


def once(command: Sequence[str], site: Path | None, terminal: bool = False) -> tuple[float, float]:
    """CPU and wall milliseconds of one run."""
    environment = os.environ | {"PYTHONPATH": str(site) if site else "", "COLUMNS": "120"}
    ours, theirs = pty.openpty() if terminal else (0, subprocess.DEVNULL)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=theirs, cwd="/")
    if terminal:
        os.close(theirs)
        drain(ours)
    code = process.wait()
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise SystemExit(f"{' '.join(command)} exited with {code}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu * 1e3, wall * 1e3


def drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(descriptor)


def compare(command: Sequence[str], site: Path, runs: int, terminal: bool = False) -> list[float]:
    """Median CPU ms without and with the plugins, then wall ms without and with."""
    times = [(once(command, None, terminal), once(command, site, terminal)) for _ in range(runs)]
    return [statistics.median(pair[side][kind] for pair in times) for kind in (0, 1) for side in (0, 1)]


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        install_plugins(site)
        print(f"Python {sys.version.split()[0]}, median of {runs} runs, milliseconds\n")
        print(f"| command | CPU, none | CPU, {PLUGINS} | difference | wall, none | wall, {PLUGINS} |")
        print("|---|---:|---:|---:|---:|---:|")
        for terminal in (False, True):
            for arguments in COMMANDS:
                if terminal and "--json" in arguments:
                    continue
                none, some, wall_none, wall_some = compare(
                    [sys.executable, "-m", "zoo_cli", *arguments], site, runs, terminal
                )
                name = f"`zoo {' '.join(arguments)}`" + (" on a terminal" if terminal else "")
                print(
                    f"| {name} | {none:.0f} | {some:.0f} | {some - none:.0f} | {wall_none:.0f} | {wall_some:.0f} |"
                )
        print(f"\n| discovery in a running process | none | {PLUGINS} |\n|---|---:|---:|")
        for name, setup in METHODS.items():
            cells = [f"{in_process(setup, path):.1f}" for path in (None, site)]
            print(f"| {name} | {' | '.join(cells)} |")
        start = [once([sys.executable, "-c", "pass"], None)[0] for _ in range(runs)]
        helps = [once([sys.executable, "-m", "zoo_cli", "--help"], None)[0] for _ in range(runs)]
        bare, helped = statistics.median(start), statistics.median(helps)
        print(f"\n`python -c pass` {bare:.0f} ms, `zoo --help` {helped:.0f} ms: {helped / bare:.1f} times.")


def in_process(setup: str, site: Path | None) -> float:
    """Least milliseconds of seven calls of `work` in a fresh process; nothing is cached between them."""
    program = (
        f"{setup}\nimport time\nbest = 1e9\n"
        "for number in range(7):\n"
        "    import zoo.plugins.discovery; zoo.plugins.discovery._discover.cache_clear()\n"
        "    start = time.process_time(); work(); best = min(best, time.process_time() - start)\n"
        "print(best * 1e3)"
    )
    environment = os.environ | {"PYTHONPATH": str(site) if site else ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd="/"
    )
    return float(done.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
