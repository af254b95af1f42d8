"""Apply several recipes to one network, and show which of them no other one beats in both size and quality.

    python examples/compare_recipes.py ptq qat depthwise+qat stage-prune+depthwise+qat --minutes 30

Every number is that of the exported file in ONNX Runtime.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import zoo
from zoo.pipeline.measure import Measured


@dataclass(frozen=True)
class Point:
    """A recipe with what its file costs and is worth; of `worth`, more is better."""

    recipe: str
    megabytes: float
    gmacs: float
    worth: float
    shown: str

    def beats(self, other: Point) -> bool:
        """Return whether this one is at least as good in everything, and better in something."""
        mine, theirs = ((-each.megabytes, -each.gmacs, each.worth) for each in (self, other))
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "recipes", nargs="*", default=["ptq", "qat", "depthwise+qat"], help="recipes to compare"
    )
    parser.add_argument("--architecture", default="unet")
    parser.add_argument("--data", help="such as 'folder(root=DIR)'; that of the network's task by default")
    parser.add_argument("--minutes", type=float, help="how long to train for each recipe")
    parser.add_argument("--steps", type=int, help="training steps for each recipe, instead of minutes")
    parser.add_argument("--images", type=int, help="evaluate on this many test images only")
    parser.add_argument("--out", type=Path, default=Path("out/compared"), help="folder for the artifacts")
    given = parser.parse_args()

    points = []
    for number, recipe in enumerate(given.recipes):
        result = zoo.apply(
            given.architecture,
            recipe,
            data=given.data,
            out=given.out / str(number),
            minutes=given.minutes,
            steps=given.steps,
            images=given.images,
            max_loss=None,  # what is lost is what the table is to show
        )
        if number == 0:
            points.append(point("(as it is)", result.files[0]))
        points.append(point(recipe, result.files[-1]))

    measure = result.files[-1].quality.metrics[0].name
    print(f"| recipe | MB | GMACs | {measure} | best for its size |\n|---|---:|---:|---:|---|")
    for each in sorted(points, key=lambda each: each.megabytes):
        best = "" if any(other.beats(each) for other in points) else "yes"
        print(f"| {each.recipe} | {each.megabytes:.2f} | {each.gmacs:.3f} | {each.shown} | {best} |")


def point(recipe: str, file: Measured) -> Point:
    """Return a file's costs, and its first measure: PSNR, top-1 or whatever the task has."""
    quality = file.quality
    measure = quality.metrics[0]
    value = quality.values[measure.key]
    worth = value if measure.higher_is_better else -value
    return Point(recipe, file.file_bytes / 1e6, file.macs / 1e9, worth, quality.show(measure))


if __name__ == "__main__":
    main()
