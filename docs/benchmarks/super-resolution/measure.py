"""Super-resolution measured on photographs that a network has not seen, next to Pillow's bicubic and Lanczos filters.

    python docs/benchmarks/super-resolution/measure.py ARTIFACT ... --photos DIR [--write] [--picture NAME:LEFT,TOP]

Each photograph is reduced as `degradations` does it, and enlarged again: by Pillow, and by each artifact as `zoo run`
executes it, in tiles, on the exported file. --write puts the table into the README in this folder; --picture draws the
same part of a photograph as each of them makes it, into docs/images/super-resolution.png. Needs zoo-superres.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from zoo import plugins
from zoo.artifacts.artifact import open_artifact
from zoo.cost import onnx_cost
from zoo.evaluation.evaluator import deployed_architecture
from zoo.evaluation.predict import make_predictor
from zoo.onnx.check import load_checked_model
from zoo_superres.degradations import Degradations, DegradationsConfig
from zoo_superres.task import compare_luma

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

SCALE = 2
#: Of the part of a photograph that is shown, in its pixels.
PART = (150, 150)
_DOCS = Path(__file__).resolve().parents[2]

Enlarge = Callable[[np.ndarray], np.ndarray]


def by_pillow(method: Image.Resampling) -> Enlarge:
    """Return a function from (3, H, W) in [0, 1] to the same of twice the sides."""

    def enlarge(inputs: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.rint(inputs.transpose(1, 2, 0) * 255).astype(np.uint8))
        larger = image.resize((SCALE * image.width, SCALE * image.height), method)
        return np.asarray(larger).transpose(2, 0, 1).astype(np.float32) / 255

    return enlarge


def by_artifact(folder: Path) -> tuple[Enlarge, str]:
    """Return the same for an artifact, and what it costs, as cells of the table."""
    artifact = open_artifact(folder)
    session = plugins.engine("onnxruntime").open(load_checked_model(artifact))
    cost = onnx_cost((folder / "model.onnx").read_bytes(), (1, 3, 360, 640))
    cells = f"{(folder / 'model.onnx').stat().st_size:,} | {cost.macs / 1e9:.2f}"
    return make_predictor(session, deployed_architecture(artifact)), cells


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--photos", required=True, type=Path)
    parser.add_argument("--picture", default="")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    ways = {
        "bicubic (Pillow)": (by_pillow(Image.Resampling.BICUBIC), " | "),
        "Lanczos (Pillow)": (by_pillow(Image.Resampling.LANCZOS), " | "),
        **{f"`{folder.name}`": by_artifact(folder) for folder in options.artifacts},
    }
    data = Degradations(DegradationsConfig(photos=(str(options.photos),), packaged=False))
    network = deployed_architecture(open_artifact(options.artifacts[0]))
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    chosen, _, corner = options.picture.partition(":")
    parts: dict[str, np.ndarray] = {}
    for split in ("train", "val", "test"):
        for frame in data.frames(network, split):
            for name, (enlarge, _) in ways.items():
                larger = enlarge(frame.inputs)
                scores[name].append(compare_luma(larger, frame.target, SCALE))
                if frame.scene == chosen:
                    parts.setdefault("original", part_of(frame.target, corner))
                    put_new(parts, name.strip("`"), part_of(larger, corner))
    lines = [
        "| | PSNR of Y | SSIM of Y | bytes of the file | GMACs for 1280 x 720 |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in scores.items():
        psnr, ssim = (float(np.mean([each[key] for each in found])) for key in ("psnr_y_db", "ssim_y"))
        lines.append(f"| {name} | {psnr:.2f} dB | {ssim:.4f} | {ways[name][1]} |")
    table = "\n".join(lines)
    print(table)
    if parts:
        drawn(parts).save(_DOCS / "images" / "super-resolution.png", optimize=True)
    if options.write:
        put_table(Path(__file__).with_name("README.md"), "scores", table)


def put_new(parts: dict[str, np.ndarray], name: str, part: np.ndarray) -> None:
    """Add a part, unless one looks the same to a level of 255: a folded network's, next to the network's."""
    if not any(np.abs(part.astype(int) - other).max() <= 1 for other in parts.values()):
        parts[name] = part


def part_of(image: np.ndarray, corner: str) -> np.ndarray:
    """The part of an image (3, H, W) that begins at a corner, "left,top", as (h, w, 3) of 8 bits."""
    left, top = (int(each) for each in corner.split(","))
    part = image[:, top : top + PART[0], left : left + PART[1]]
    return np.rint(np.clip(part, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def drawn(parts: dict[str, np.ndarray]) -> Image.Image:
    """The parts in a row, twice as large, each pixel four, with their names below."""
    (rows, columns), label, gap = PART, 18, 4
    wide = len(parts) * (2 * columns + gap) - gap
    sheet = Image.new("RGB", (wide, 2 * rows + label), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, part) in enumerate(parts.items()):
        left = number * (2 * columns + gap)
        sheet.paste(
            Image.fromarray(part).resize((2 * columns, 2 * rows), Image.Resampling.NEAREST), (left, 0)
        )
        draw.text((left + 4, 2 * rows + 3), name, fill="black")
    return sheet


if __name__ == "__main__":
    main()
