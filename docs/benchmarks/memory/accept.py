"""A 24-megapixel frame in little memory against one piece: ``python docs/benchmarks/memory/accept.py``.

`zoo run` of lighter-unet-int8 under several limits, in turn, each in a process of its own from start to written
picture; the same under a control group with that limit, where one can be made (as root, cgroup v1); and the largest
difference of the pictures of every checkpoint in tiles from those in one piece. Writes accept.json, and the
tables of the README.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fit import CHECKPOINTS, HERE, Run, run
from PIL import Image
from scene import write_scene

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

Image.MAX_IMAGE_PIXELS = None
NET = "lighter-unet-int8"
WHOLE, LIMITS = "4GB", ("512MB", "256MB")
GROUPS = Path("/sys/fs/cgroup/memory")


def timings(shot: Path, folder: str, rounds: int) -> list[dict[str, Any]]:
    """Each limit's runs, interleaved."""
    runs: dict[str, list[Run]] = {limit: [] for limit in (WHOLE, *LIMITS)}
    for _ in range(rounds):
        for limit, done in runs.items():
            done.append(run(command(NET, shot, f"{folder}/{limit}", "--memory", limit)))
            sys.stderr.write(f"{limit}: {done[-1].seconds:.2f} s, {done[-1].processor:.2f} s of processors\n")

    def ratio(limit: str, of: Callable[[Run], float]) -> float:
        medians = (statistics.median(map(of, runs[each])) for each in (limit, WHOLE))
        return round(next(medians) / next(medians), 3)

    return [
        {
            "limit": limit,
            "tiles": done[0].report["files"][0]["tiles"],
            "peak_mib": round(max(max(each.report["peak_rss_mb"], each.most / 2**20) for each in done), 1),
            "seconds": [round(each.seconds, 2) for each in done],
            "ratio": ratio(limit, lambda each: each.seconds),
            "processor_ratio": ratio(limit, lambda each: each.processor),
        }
        for limit, done in runs.items()
    ]


def command(name: str, shot: Path, folder: str, *options: str) -> list[str]:
    """A run of a checkpoint."""
    artifact = str(CHECKPOINTS / name)
    return ["run", artifact, str(shot), "-o", folder, "--overwrite", "--engine", "onnxruntime", *options]


def in_groups(shot: Path, folder: str) -> list[dict[str, Any]]:
    """Runs in control groups that grant no more than the limit, all pages counted, the decoder's too."""
    found = []
    for limit in LIMITS:
        group = GROUPS / f"zoo-accept-{os.getpid()}"
        try:
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(int(limit[:-2]) * 10**6))
        except OSError:
            return []
        enter = f'echo $$ > {group}/cgroup.procs; exec "$0" -m zoo_cli "$@"'
        arguments = command(NET, shot, folder, "--memory", limit)
        done = subprocess.run(
            ["/bin/sh", "-c", enter, sys.executable, *arguments], capture_output=True, text=True
        )
        events = (group / "memory.oom_control").read_text().split()
        found.append(
            {"limit": limit, "exit": done.returncode, "killed": int(events[events.index("oom_kill") + 1])}
        )
        group.rmdir()
    return found


def differences(folder: str) -> list[dict[str, Any]]:
    """How far pictures in tiles are from those in one piece, in 255ths."""
    found = []
    for name in sorted(path.name for path in CHECKPOINTS.iterdir() if (path / "model.onnx").exists()):
        size = "24 MP" if name == NET else "1 MP"
        shot = write_scene(Path(folder), size)
        pictures = []
        for number, tile in enumerate(("8192", "512" if name == NET else "304")):
            run(command(name, shot, f"{folder}/{number}", "--tile", tile, "--memory", "8GB"))
            with Image.open(f"{folder}/{number}/{shot.stem}.png") as image:
                pictures.append(np.asarray(image))
        apart = np.abs(pictures[0].astype(np.int16) - pictures[1])
        found.append(
            {
                "checkpoint": name,
                "frame": size,
                "largest": int(apart.max()),
                "different": round(float((apart > 0).mean()), 8),
            }
        )
        sys.stderr.write(f"{found[-1]}\n")
    return found


def main() -> None:
    """The parts that are named, or all."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parts", nargs="*", choices=[[], "timings", "groups", "differences"], default=[])
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()
    file = HERE / "accept.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        shot = write_scene(Path(folder), "24 MP")
        parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "timings": lambda: timings(shot, folder, chosen.rounds),
            "groups": lambda: in_groups(shot, folder),
            "differences": lambda: differences(folder),
        }
        for name in chosen.parts or parts:
            results[name] = parts[name]()
    file.write_text(json.dumps(results, indent=1) + "\n")
    put_table(HERE / "README.md", "accept", tables(results))


def tables(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown."""
    lines = [
        "| `--memory` | tiles | peak MiB | time | time, shortest of each | processor time |",
        "|---|---|---|---|---|---|",
    ]
    shortest = [min(row["seconds"]) for row in results.get("timings", [])]
    for row, least in zip(results.get("timings", []), shortest, strict=True):
        lines.append(
            f"| {row['limit']} | {row['tiles']} | {row['peak_mib']:.0f} | {row['ratio']:.2f}x | "
            f"{least / shortest[0]:.2f}x | "
            f"{row['processor_ratio']:.2f}x |"
        )
    lines += ["", "| control group | exit code | killed |", "|---|---|---|"]
    lines += [f"| {row['limit']} | {row['exit']} | {row['killed']} |" for row in results.get("groups", [])]
    lines += ["", "| checkpoint | frame | largest difference | samples that differ |", "|---|---|---|---|"]
    for row in results.get("differences", []):
        lines.append(
            f"| {row['checkpoint']} | {row['frame']} | {row['largest']}/255 | {100 * row['different']:.4f} % |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
