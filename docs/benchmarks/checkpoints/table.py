"""The README's table of shipped checkpoints: every number comes from what was measured and published with them.

python docs/benchmarks/checkpoints/table.py            # print it
python docs/benchmarks/checkpoints/table.py --write    # put it into README.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.artifacts import open_artifact
from zoo.artifacts.card import Figure, figures_of
from zoo.catalogue import checkpoints, shipped_folder

README = Path(__file__).resolve().parents[3] / "README.md"
BEGIN, END = "<!-- checkpoints: begin -->\n", "<!-- checkpoints: end -->\n"
COLUMNS = {
    "parameters": ("parameters", "{:,.0f}"),
    "gmacs": ("GMACs", "{:.3f}"),
    "file_mb": ("model.onnx", "{:.2f} MB"),
    "psnr_db": ("PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.3f}"),
}


def table() -> str:
    """One row a checkpoint: figures of its metrics.json, and the command that measures it again."""
    heads = ["checkpoint", *(head for head, _ in COLUMNS.values()), "measure it again"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * len(COLUMNS)}---|"]
    for name in checkpoints():
        measured = {
            figure.key: figure for figure in figures_of(open_artifact(shipped_folder(name)).metrics())
        }
        cells = [f"[`{name}`](checkpoints/{name}/README.md)"]
        cells += [
            form.format(measured[key].after) if key in measured else "" for key, (_, form) in COLUMNS.items()
        ]
        lines.append(f"| {' | '.join([*cells, command(name, measured.get('psnr_db'))])} |")
    return "\n".join(lines) + "\n"


def command(name: str, quality: Figure | None) -> str:
    """The `zoo eval` that gives the quality, as it was noted when it was measured."""
    start = f"zoo eval {name}"
    noted = quality.how[quality.how.find(start) :] if quality and start in quality.how else start
    return f"`zoo pull {name} && {noted}`"


def with_table(text: str) -> str:
    """A README with the table between its two markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    if parser.parse_args().write:
        README.write_text(with_table(README.read_text()))
    else:
        print(table(), end="")


if __name__ == "__main__":
    main()
