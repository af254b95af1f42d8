"""Compress a trained network: apply a recipe, and read what was measured on the exported file.

    python examples/compress_unet.py --minutes 30

The artifact can be run with `zoo run`, evaluated with `zoo eval` and published with `zoo publish`. An interrupted run
resumes when the same command is started again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import zoo


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", default="depthwise+qat", help="techniques in order")
    parser.add_argument("--architecture", default="unet", help="a network that is trained already")
    parser.add_argument("--minutes", type=float, help="how long to train")
    parser.add_argument("--steps", type=int, help="training steps, instead of minutes")
    parser.add_argument("--images", type=int, help="evaluate on this many test images only")
    parser.add_argument("--out", type=Path, default=Path("out/compressed"), help="the artifact folder")
    given = parser.parse_args()

    result = zoo.apply(
        given.architecture,
        given.recipe,
        out=given.out,
        minutes=given.minutes,
        steps=given.steps,
        images=given.images,
        max_loss=None,  # the budget of quality in dB; None for a demonstration with few steps
    )

    print(result.table())
    size = result.metrics["file_mb"]
    print(f"\n{result.artifact}: {size['after'] / size['before']:.0%} of the bytes.")


if __name__ == "__main__":
    main()
