"""What `zoo run --memory` plans for, and what it then uses: ``python docs/benchmarks/memory/fit.py``.

Each run is a process of its own. `used` is its peak resident set; `with decoder` is the highest sum of its resident
set and that of the child that decodes, sampled every few milliseconds (pages that both map are counted twice).
Writes fit.json and fit.md beside this file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scene import write_scene

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


def run(arguments: list[str]) -> tuple[dict[str, Any], int, float]:
    """A command's JSON report, the highest sum of resident bytes of it and its children, and its seconds."""
    started = time.perf_counter()
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
    return json.loads(printed), most, seconds


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
                report, both, _ = run(
                    ["run", artifact, str(shot), "-o", folder, "--overwrite", "--engine", "onnxruntime",
                     "--memory", limit]
                )  # fmt: skip
                file = report["files"][0]
                rows.append(
                    {
                        "checkpoint": name,
                        "frame": size,
                        "limit": limit,
                        "limit_mib": report["memory_mb"],
                        "tiles": file["tiles"],
                        "planned_mib": file["planned_mb"],
                        "used_mib": report["peak_rss_mb"],
                        "with_decoder_mib": round(both / 2**20, 1),
                    }
                )
                sys.stderr.write(f"{rows[-1]}\n")
    (HERE / "fit.json").write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "fit.md").write_text(table(rows))


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
