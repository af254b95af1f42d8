"""Tables of the shipped checkpoints in README and documentation: every number is what was published with them.

python docs/benchmarks/checkpoints/table.py            # print them
python docs/benchmarks/checkpoints/table.py --write    # put them between their markers
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.artifacts import open_artifact
from zoo.artifacts.figures import Figure, figures_of, format_number
from zoo.registry import checkpoints, shipped_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table, with_table

ROOT = Path(__file__).resolve().parents[3]
NAME = "checkpoints"
COLUMNS = {
    "parameters": ("parameters", "{:,.0f}"),
    "gmacs": ("GMACs", "{:.3f}"),
    "file_mb": ("model.onnx", "{:.2f} MB"),
}
#: Figures that cost something; the others are scores.
COSTS = {*COLUMNS, "latency_ms"}
#: Pages on checkpoints whose measures come with another distribution, by task.
PAGES = {"super-resolution": "[super-resolution](docs/benchmarks/super-resolution/README.md)"}
PHOTOGRAPHS = {"psnr_db": "{:.2f} dB", "ssim": "{:.3f}"}


def metrics(name: str) -> dict[str, Any]:
    """metrics.json of a shipped checkpoint."""
    return open_artifact(shipped_folder(name)).metrics()


def overview() -> str:
    """One row a checkpoint, and the command that measures it again."""
    heads = ["checkpoint", *(head for head, _ in COLUMNS.values()), "quality", "measure it again"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * len(COLUMNS)}---|---|"]
    for name in checkpoints():
        figures = {figure.key: figure for figure in figures_of(metrics(name))}
        scores = [figure for key, figure in figures.items() if key not in COSTS]
        cells = [f"[`{name}`](checkpoints/{name}/README.md)"]
        cells += [form.format(figures[key].after) for key, (_, form) in COLUMNS.items()]
        cells.append(
            ", ".join(f"{score.name} {format_number(score.after, score.unit)}" for score in scores[:2])
        )
        page = PAGES.get(open_artifact(shipped_folder(name)).manifest.task)
        lines.append(f"| {' | '.join([*cells, page or command(name, scores[0])])} |")
    return "\n".join(lines) + "\n"


def quality() -> str:
    """PSNR and SSIM of each checkpoint that develops RAW files."""
    lines = ["| checkpoint | PSNR | SSIM | measure it again |", "|---|---:|---:|---|"]
    for name in checkpoints():
        figures = {figure.key: figure for figure in figures_of(metrics(name))}
        if open_artifact(shipped_folder(name)).manifest.input.kind != "packed-raw":
            continue
        cells = [form.format(figures[key].after) for key, form in PHOTOGRAPHS.items()]
        lines.append(f"| `{name}` | {' | '.join([*cells, command(name, figures['psnr_db'])])} |")
    return "\n".join(lines) + "\n"


def command(name: str, quality: Figure) -> str:
    """The `zoo eval` that gives the quality, as it was noted when it was measured."""
    start = f"zoo eval {name}"
    noted = quality.how[quality.how.find(start) :] if start in quality.how else start
    return f"`zoo pull {name} && {noted}`"


def stages(name: str) -> str:
    """Return what each stage of a shipped checkpoint's recipe achieved; "" if it is not shipped."""
    if name not in checkpoints():
        return ""
    found = metrics(name)
    lines = [
        f"Results for `{name}` after each stage, measured on the exported files in ONNX Runtime:",
        "",
        "| | parameters | GMACs | model.onnx | latency | PSNR | SSIM |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for file in found["files"]:
        quality, latency = file["quality"], file["latency"]
        cells = [
            f"`{file['stage']}`" if file["stage"] else found["baseline"],
            f"{file['parameters']:,}",
            f"{file['macs'] / 1e9:.3f}",
            f"{file['file_bytes'] / 1e6:.2f} MB",
            f"{latency['median_ms']:.0f} ms" if latency else "",
            f"{quality['psnr_db']:.2f} dB",
            f"{quality['ssim']:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    hows = [f"- {figure.name}: {figure.how}" for figure in figures_of(found)]
    return "\n".join([*lines, "", *hows, "", "```text", found["command"], "```"]) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "README.md": overview,
    "docs/benchmarks/quality/README.md": quality,
    "docs/techniques/depthwise.md": lambda: stages("lighter-unet"),
    "docs/techniques/qat.md": lambda: stages("lighter-unet-int8"),
}


def renewed(page: str) -> str:
    """The text of a page with its table as it must be."""
    return with_table(ROOT / page, NAME, TABLES[page]())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into the pages")
    write = parser.parse_args().write
    for page, table in TABLES.items():
        if write:
            put_table(ROOT / page, NAME, table())
        else:
            print(table())


if __name__ == "__main__":
    main()
