"""A small tree of See-in-the-Dark photographs, as its authors publish it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data.cameras import CAMERAS
from zoo.data.exposure import Shot, colour_matrix, expose
from zoo.data.picture_folders import packaged_pictures, read_picture
from zoo.images.srgb import srgb_to_linear
from zoo.raw.dng import dng_bytes

SONY = CAMERAS[0]
LINES = {
    "train": ["00001_00_0.1s 00001_00_10s", "00001_01_0.1s 00001_00_10s", "00002_00_0.04s 00002_00_30s"],
    "val": ["20003_00_0.1s 20003_00_10s"],
    "test": ["10004_00_0.1s 10004_00_10s", "10034_00_0.1s 10034_00_10s"],
}


def write_tree(root: Path) -> None:
    """Real RAW files, small, under the names of the published tree."""
    picture = read_picture(packaged_pictures()[0].path)[:128, :192]
    linear = srgb_to_linear(picture)
    for split, lines in LINES.items():
        listed = []
        for line in lines:
            short, long = (
                f"./Sony/{kind}/{name}.ARW"
                for kind, name in zip(("short", "long"), line.split(), strict=True)
            )
            listed.append(f"{short} {long} ISO200 F8")
            for path, ratio in ((short, 100.0), (long, 1.0)):
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                frame = expose(linear, Shot(SONY, ratio, 0.2, 2.0, 1.6), np.random.default_rng(0))
                target.write_bytes(dng_bytes(frame, xyz_to_camera=colour_matrix(SONY)))
        (root / f"Sony_{split}_list.txt").write_text("\n".join(listed) + "\n")
