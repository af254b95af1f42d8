"""What distillation is worth: one recipe with and without it, for the same number of steps.

    python docs/benchmarks/distill/run.py --steps 500

What was interrupted goes on with the same command, and what is done is not done again; the table in README.md is made
from the artifacts that are there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

README = Path(__file__).with_name("README.md")
#: name of the artifact, and what is added to the recipe
VARIANTS = (
    ("none", ""),
    ("output", "distill(features=0)"),
    ("features", "distill(output=0)"),
    ("both", "distill"),
)
#: key in the artifact's quality, and how the table shows it
MEASURES = {
    "psnr_db": ("PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.4f}"),
    "dice": ("Dice", "{:.4f}"),
    "iou": ("IoU", "{:.4f}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="stage-prune+depthwise", help="the compression")
    parser.add_argument("--architecture", default="unet")
    parser.add_argument("--weights", default="auto", help="trained weights to start from and to learn from")
    parser.add_argument("--data", default="", help="dataset with options [by the task]")
    parser.add_argument("--photos", action="append", default=[], help="folder of photographs to add")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/distill"), help="folder for the artifacts")
    parser.add_argument("--readme", type=Path, default=README, help="where the table goes")
    arguments = parser.parse_args()
    for name, added in VARIANTS:
        if not (arguments.out / name / "zoo.json").is_file():
            done = subprocess.run([sys.executable, "-m", "zoo_cli", *command(arguments, name, added)])
            if done.returncode:
                sys.exit(done.returncode)
    write_table(arguments)


def command(arguments: argparse.Namespace, name: str, added: str) -> list[str]:
    """What makes one artifact. Quality may fall as it likes: how far it does is the question."""
    data = ["--data", arguments.data] if arguments.data else []
    photos = [word for folder in arguments.photos for word in ("--photos", folder)]
    return [
        "apply", "+".join(part for part in (arguments.recipe, added) if part), arguments.architecture,
        "--weights", arguments.weights, *data, *photos, "--steps", str(arguments.steps),
        "--batch", str(arguments.batch), "--crop", str(arguments.crop), "--seed", str(arguments.seed),
        "--max-loss", "100", "--out", str(arguments.out / name),
    ]  # fmt: skip


def write_table(arguments: argparse.Namespace) -> None:
    """One row for each artifact, between the marks of the README."""
    metrics = {name: json.loads((arguments.out / name / "metrics.json").read_text()) for name, _ in VARIANTS}
    first = metrics["none"]["files"]
    shown = [key for key in MEASURES if key in first[-1]["quality"]]
    head = " | ".join(["", "recipe", *(MEASURES[key][0] for key in shown)])
    lines = [f"|{head} |", "|---|---" + "|---:" * len(shown) + "|"]
    rows = [(f"`{arguments.architecture}` before", "", first[0]["quality"])]
    for name, added in VARIANTS:
        recipe = "+".join(part for part in (arguments.recipe, added) if part)
        rows.append((name, f"`{recipe}`", metrics[name]["files"][-1]["quality"]))
    for name, recipe, quality in rows:
        cells = [MEASURES[key][1].format(quality[key]) for key in shown]
        lines.append(f"| {' | '.join([name, recipe, *cells])} |")
    facts = (
        f"{arguments.steps} steps of {arguments.batch} crops of {arguments.crop}, seed {arguments.seed}; "
        f"{metrics['none']['training']['machine']}; measured on {first[-1]['quality']['images']} images that no "
        "training saw, in the exported files."
    )
    put_table(arguments.readme, "measured", "\n".join([*lines, "", facts]))
    print(f"Wrote {arguments.readme}")


if __name__ == "__main__":
    main()
