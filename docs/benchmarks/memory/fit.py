"""What `zoo run --memory` plans for, and what it then uses: ``python docs/benchmarks/memory/fit.py``.

Each run is a process of its own. `used` is its peak resident set; `with decoder` is the highest sum of its resident
set and that of the child that decodes, sampled every few milliseconds (pages that both map are counted twice).
Writes fit.json beside this file, and the table of the README.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scene import write_scene

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

HERE = Path(__file__).parent
CHECKPOINTS = HERE.parents[2] / "checkpoints"
RUNS = [
    ("lighter-unet-int8", "1 MP", ("384MiB", "160MB")),
    ("lighter-unet-int8", "6 MP", ("1GB", "384MiB", "200MB")),
    ("lighter-unet-int8", "24 MP", ("3GB", "1GB", "512MB", "384MiB", "256MB")),
    ("lighter-unet", "1 MP", ("384MiB", "200MB")),
    ("lighter-unet", "6 MP", ("1200MB", "512MB", "256MB")),
    ("unet", "1 MP", ("384MiB", "250MB")),
    ("unet", "6 MP", ("512MB", "384MiB")),
]


@dataclass(frozen=True)
class Run:
    """report: the JSON. most: highest sum of resident bytes of it and its children. seconds: of the clock, and
    of processors, those of its children included."""

    report: dict[str, Any]
    most: int
    seconds: float
    processor: float


def run(arguments: list[str]) -> Run:
    """A command in a process of its own."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo_cli", *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    most = 0
    while process.poll() is None:
        most = max(most, sum(resident(each) for each in (process.pid, *children(process.pid))))
        time.sleep(0.004)
    seconds = time.perf_counter() - started
    printed, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {errors}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(json.loads(printed), most, seconds, processor)


def children(of: int) -> list[int]:
    """Processes that the threads of a process started."""
    found: list[int] = []
    for path in Path(f"/proc/{of}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def resident(of: int) -> int:
    """The resident set of a process in bytes, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{of}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def main() -> None:
    """All runs."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, size, limits in RUNS:
            shot = write_scene(Path(folder), size)
            for limit in limits:
                artifact = str(CHECKPOINTS / name)
                done = run(
                    ["run", artifact, str(shot), "-o", folder, "--overwrite", "--engine", "onnxruntime",
                     "--memory", limit]
                )  # fmt: skip
                report, file = done.report, done.report["files"][0]
                rows.append(
                    {
                        "checkpoint": name,
                        "frame": size,
                        "limit": limit,
                        "limit_mib": report["memory_mb"],
                        "tiles": file["tiles"],
                        "planned_mib": file["planned_mb"],
                        "used_mib": report["peak_rss_mb"],
                        "with_decoder_mib": round(done.most / 2**20, 1),
                    }
                )
                sys.stderr.write(f"{rows[-1]}\n")
    (HERE / "fit.json").write_text(json.dumps(rows, indent=1) + "\n")
    put_table(HERE / "README.md", "fit", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; MiB throughout."""
    lines = [
        "| checkpoint | frame | `--memory` | MiB | tiles | planned | used | used of planned | with decoder |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        share = row["used_mib"] / row["planned_mib"]
        lines.append(
            f"| {row['checkpoint']} | {row['frame']} | {row['limit']} | {row['limit_mib']:.0f} | {row['tiles']} | "
            f"{row['planned_mib']:.0f} | {row['used_mib']:.0f} | {share:.2f} | {row['with_decoder_mib']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
