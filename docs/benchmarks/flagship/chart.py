"""Colours and grids on a real camera file: a photographed colour chart, developed by networks and by LibRaw.

    python docs/benchmarks/flagship/chart.py FILE.dng --rows R0,R1 --columns C0,C1 [--picture OUT.png] ARTIFACT...

The 24 patches of a 4 x 6 chart whose outer patches are centred at the given rows and columns are compared: CIEDE2000 of
their means, after the picture was brought to the brightness of LibRaw's (one factor on linear light, which makes the
means of all patches' luminance equal). The energy at periods of two and four pixels in the patches tells of grids.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import rawpy
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

import zoo
from zoo.images.srgb import linear_to_srgb, srgb_to_linear

#: Half the side of the part of a patch that is measured.
HALF = 12


def by_libraw(path: Path, ratio: float) -> np.ndarray:
    """LibRaw's picture in linear light, (H, W, 3), amplified."""
    with rawpy.imread(str(path)) as raw:
        developed = raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, gamma=(1, 1), output_bps=16, user_flip=0
        )
    return np.clip(developed.astype(np.float32) / 65535 * ratio, 0, 1)


def patches(picture: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """(24, side, side, 3)."""
    cut = []
    for row in np.linspace(*rows, 4).round().astype(int):
        for column in np.linspace(*columns, 6).round().astype(int):
            cut.append(picture[row - HALF : row + HALF, column - HALF : column + HALF])
    return np.stack(cut)


def periods(cut: np.ndarray) -> dict[int, float]:
    """Root mean square amplitude, in codes of 255, of what repeats every two and every four pixels in flat patches."""
    codes = cut.astype(np.float64) * 255
    found = {}
    for period in (2, 4):
        phases = [
            codes[:, row::period, column::period].mean(axis=(1, 2))
            for row in range(period)
            for column in range(period)
        ]
        spread = np.stack(phases).std(axis=0)
        # What noise alone leaves in the mean of so many pixels.
        noise = codes.std(axis=(1, 2)) / (2 * HALF / period)
        found[period] = float(np.sqrt(np.maximum(spread**2 - noise**2, 0).mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("artifacts", nargs="+")
    parser.add_argument("--rows", required=True)
    parser.add_argument("--columns", required=True)
    parser.add_argument("--ratio", type=float, default=3.3)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    rows, columns = (tuple(map(int, each.split(","))) for each in (arguments.rows, arguments.columns))
    linear = {"LibRaw": by_libraw(arguments.file, arguments.ratio)}
    for name in arguments.artifacts:
        with zoo.load(name, ratio=arguments.ratio, format="tiff") as runner:
            made = runner.develop(arguments.file).astype(np.float32) / 65535
        height, width = linear["LibRaw"].shape[:2]
        linear[Path(name).name] = srgb_to_linear(made[:height, :width])
    reference = patches(linear["LibRaw"], rows, columns).mean(axis=(1, 2))
    shown = []
    for name, picture in linear.items():
        means = patches(picture, rows, columns).mean(axis=(1, 2))
        factor = float(reference[:, 1].mean() / means[:, 1].mean())
        lab = [rgb2lab(linear_to_srgb(np.clip(each, 0, 1))[None])[0] for each in (means * factor, reference)]
        error = deltaE_ciede2000(*lab)
        equal = linear_to_srgb(np.clip(picture * factor, 0, 1))
        energy = periods(patches(equal, rows, columns))
        figures = {"mean": error.mean(), "largest": error.max(), "period 2": energy[2], "period 4": energy[4]}
        print(json.dumps({"path": name, **{key: round(float(value), 3) for key, value in figures.items()}}))
        shown.append(np.rint(equal * 255).astype(np.uint8))
    if arguments.picture:
        strip = np.concatenate(shown, axis=1)
        Image.fromarray(strip).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
