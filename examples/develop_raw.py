"""Develop dark RAW files from Python. Needs no PyTorch.

    python examples/develop_raw.py shot.ARW another.RAF -o images

The network is loaded once; large files are computed in tiles that fit into the memory budget.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import zoo


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="Bayer or X-Trans RAW files")
    parser.add_argument("-o", "--out", type=Path, default=Path("images"), help="folder for the images")
    parser.add_argument("--artifact", default="lighter-unet-int8", help="a checkpoint, or an artifact folder")
    parser.add_argument("--memory", default=None, help="memory budget, such as 512MB")
    given = parser.parse_args()

    given.out.mkdir(parents=True, exist_ok=True)
    with zoo.load(given.artifact, memory=given.memory) as runner:
        for file in given.files:
            try:
                image = runner.develop(file)  # (H, W, 3), uint8, sRGB
            except (
                zoo.ZooError
            ) as error:  # says what is wrong with the file; the others are developed all the same
                print(f"{file}: {error}")
                continue
            height, width = image.shape[:2]
            target = given.out / f"{file.stem}.png"
            runner.develop(file, target)  # the same, written strip by strip: a whole image never is in memory
            print(f"{target}: {width} x {height}, mean brightness {image.mean():.0f} of 255")


if __name__ == "__main__":
    main()
