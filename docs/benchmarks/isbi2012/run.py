"""The fixed-point paper's experiment on the ISBI 2012 slices: float against Q0.4 weights and Q6.0 activations.

    python docs/benchmarks/isbi2012/run.py --data isbi2012 --steps 450

trains `fixed-point-unet` in float, then quantizes it with saturating and with the published arithmetic, each trained
on for a third of the time. What was interrupted goes on with the same command, and what is done is not done again;
the table in README.md is made from the artifacts that are there.
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
NET = "fixed-point-unet"
#: name of the artifact, what the table calls it, and the recipe that makes it of the float net
VARIANTS = (
    ("float", "float", ""),
    ("saturate", "Q0.4 weights, Q6.0 activations, saturating", "fixed-point(w=0.4,a=6.0)"),
    ("paper", "the same as published: wraps and truncates", "fixed-point(w=0.4,a=6.0,mode=paper)"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with image/ and label/")
    parser.add_argument("--out", type=Path, default=Path("out/isbi2012"), help="folder for the artifacts")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="training in float; a third of it for each other"
    )
    parser.add_argument("--steps", type=int, help="instead of minutes")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--test", default="16,17,18,19", help="names of the slices held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readme", type=Path, default=README, help="where the table goes")
    arguments = parser.parse_args()
    data = f"masks(root={arguments.data},test=[{arguments.test}])"
    for name, _, recipe in VARIANTS:
        if not (arguments.out / name / "zoo.json").is_file():
            zoo(*command(arguments, data, name, recipe))
    write_table(arguments, data)


def command(arguments: argparse.Namespace, data: str, name: str, recipe: str) -> list[str]:
    """What makes one artifact."""
    share = 3 if recipe else 1
    budget = ["--minutes", f"{arguments.minutes / share:g}"]
    if arguments.steps is not None:
        budget = ["--steps", str(arguments.steps // share)]
    start = ["--weights", str(arguments.out / "float"), "--max-loss", "100"] if recipe else []
    return [
        *(["apply", recipe, NET] if recipe else ["train", NET]), *start, "--data", data, *budget,
        "--crop", str(arguments.crop), "--batch", str(arguments.batch), "--seed", str(arguments.seed),
        "--out", str(arguments.out / name),
    ]  # fmt: skip


def zoo(*args: str, capture: bool = False) -> str:
    """Run the command `zoo`; ends this program if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "zoo_cli", *args], stdout=subprocess.PIPE if capture else None, text=True
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def write_table(arguments: argparse.Namespace, data: str) -> None:
    """Measure every artifact as the engine runs it, and put the table between the marks of the README."""
    rows = []
    float_dice = float_bytes = 0.0
    for name, title, recipe in VARIANTS:
        folder = arguments.out / name
        quality = json.loads(zoo("eval", str(folder), "--data", data, "--json", capture=True))["quality"]
        training = json.loads((folder / "metrics.json").read_text())["training"]
        dice, size = 100 * quality["dice"], (folder / "model.onnx").stat().st_size
        if not recipe:
            float_dice, float_bytes = dice, size
        rows.append(
            f"| {title} | {dice:.2f} | {dice - float_dice:+.2f} | {100 * quality['iou']:.2f} | {size / 1e6:.2f} MB "
            f"| {float_bytes / size:.1f}x | {training['steps'][-1]:,} |"
        )
    head = "| | Dice, % | against float | IoU, % | model.onnx | smaller | steps |\n|---|---:|---:|---:|---:|---:|---:|"
    facts = (
        f"Slices {arguments.test} held out ({quality['images']} of 512 x 512); {training['machine']}; batch "
        f"{arguments.batch}, crops of {arguments.crop}, seed {arguments.seed}."
    )
    put_table(arguments.readme, "measured", "\n".join([head, *rows, "", facts]))
    print(f"Wrote {arguments.readme}")


if __name__ == "__main__":
    main()
